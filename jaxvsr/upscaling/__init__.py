"""What `jaxvsr.upscale` is made of: reading, chunks of time, tiles of space, writing, joining."""
