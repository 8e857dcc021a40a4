"""Data: pictures from many sources, as batches. Never imports JAX."""
