"""Generators, discriminators and feature networks; importing this package registers them all."""

from gqst import registry
from gqst.models import discriminators, generators

registry.import_members(generators.__name__, generators.__path__)
registry.import_members(discriminators.__name__, discriminators.__path__)
