"""Evaluation: pictures measured against sources, truths and a style, beside what needs no training."""
