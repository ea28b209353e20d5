"""What programs touch over HTTP: health and metrics over TCP, management over a Unix socket."""
