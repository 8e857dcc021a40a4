"""`python -m gqst.plan`: whether a config fits on devices that are not here, and how fast it can be there."""
