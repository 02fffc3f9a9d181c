"""Profiling: parameters, FLOPs, time, memory, and compilation for absent devices."""
