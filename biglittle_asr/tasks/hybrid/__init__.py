"""Hybrid systems: flat start, iterations of alignment and training, and their Brain."""
