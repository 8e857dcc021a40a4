"""Pictures as files and arrays: decoding, atomic writing and grids. Never imports JAX."""
