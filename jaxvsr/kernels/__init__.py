"""Kernels in which a transformer block's intermediate results never reach main memory."""
