"""Array operations shared by networks, losses and metrics."""
