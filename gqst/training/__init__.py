"""Training: the pure step, its spread over devices, and the run around it."""
