"""Detection: boxes around objects, by diffusion or in one pass."""
