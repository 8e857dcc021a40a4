"""Pictures as files and as arrays: decoded, written whole or not at all, laid side by side. Never imports JAX."""
