"""Inference: a trained generator applied to pictures."""
