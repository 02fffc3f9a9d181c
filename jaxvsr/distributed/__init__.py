"""Devices and hosts: the mesh, the sharding of frames' rows, processes that share a run."""
