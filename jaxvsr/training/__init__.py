"""Training: the step, its state, the optimiser, checkpoints and logs."""
