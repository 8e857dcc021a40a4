"""The report of a run: one page that shows its pictures, curves and decisions, without a request to anywhere."""
