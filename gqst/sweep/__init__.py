"""`python -m gqst.sweep`: a search for better values of config keys."""
