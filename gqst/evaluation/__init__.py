"""Evaluation: pictures measured against sources, truths and a style, and baselines beside them."""
