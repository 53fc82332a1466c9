"""Scores with their intervals, the trivial baseline, differences and plots, from stored predictions alone."""
