"""Training: the step, its state, the optimizer, checkpoints and logs."""
