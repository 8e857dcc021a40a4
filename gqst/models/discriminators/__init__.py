"""Discriminators, one file each; `Config.discriminator` chooses one."""
