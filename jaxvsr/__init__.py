"""Video super-resolution in JAX: the published systems on shared layers."""
