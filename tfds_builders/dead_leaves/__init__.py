"""Synthetic clips of moving dead leaves, with true flow."""
