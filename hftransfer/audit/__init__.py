"""Looks at rows that people should see: labels that may be wrong, likely copies."""
