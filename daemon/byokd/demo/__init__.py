"""The main job, shown on real parts: a broker, Azure in miniature, the daemon, and an independent subscriber."""
