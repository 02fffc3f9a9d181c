"""The parts of `jaxvsr.upscale`: chunks of time, tiles of space, segments, joining."""
