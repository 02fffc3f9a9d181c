"""Kernels whose intermediate results never reach a GPU's or TPU's main memory."""
