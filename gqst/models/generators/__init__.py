"""Generators, one file each; `Config.generator` chooses one."""
