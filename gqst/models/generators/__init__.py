"""Generators: one file each, chosen by `Config.generator`."""
