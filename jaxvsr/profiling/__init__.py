"""Profiling: parameters, FLOPs, time, memory, and compilation for devices that are not here."""
