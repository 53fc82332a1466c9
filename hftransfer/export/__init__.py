"""A finished model in other forms, checked against the one that was trained."""
