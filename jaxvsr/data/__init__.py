"""Data sets: reading, degrading and storing clips, and batches for training."""
