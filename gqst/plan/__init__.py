"""`python -m gqst.plan`: whether a config fits on devices that are not present, and how fast it can be there."""
