"""Frozen feature networks, one file each; losses and metrics choose them by name."""

from gqst import registry

registry.import_members(__name__, __path__)
