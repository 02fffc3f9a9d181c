"""Clips of your own."""
