"""What every task's training shares: the resumable Brain, batches, checkpoints, curves, logs, failures, processes."""
