"""What the neighbours' options are called and what they take, read from their source without importing them."""
