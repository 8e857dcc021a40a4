"""Loss terms; importing the package registers every term in it."""

from gqst import registry

registry.import_members(__name__, __path__)
