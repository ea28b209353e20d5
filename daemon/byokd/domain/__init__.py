"""What byokd decides: pure values and functions. Standard library only; no I/O, no clock, no settings."""
