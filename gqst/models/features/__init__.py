"""Frozen feature networks: one file each, chosen by name in losses and metrics."""

from gqst import registry

registry.import_members(__name__, __path__)
