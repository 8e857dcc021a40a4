"""Pictures from many sources, as batches of NumPy arrays. Never imports JAX."""
