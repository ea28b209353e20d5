"""The service manager that started the daemon: systemd."""
