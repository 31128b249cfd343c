"""Shared parts of all tasks' training: the resumable Brain, batches, checkpoints, curves, logs, failures, processes."""
