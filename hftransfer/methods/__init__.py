"""How the weights are adapted: one file a method, found by its name."""
