"""The long-running tasks, and the wiring that joins them to the adapters."""
