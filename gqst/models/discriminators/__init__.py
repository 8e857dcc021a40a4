"""Discriminators: one file each, chosen by `Config.discriminator`."""
