"""`python -m gqst.sweep`: a hyperparameter search over config keys."""
