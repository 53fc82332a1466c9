"""A kind of answer and a task that the package knows nothing of: files that a test puts beside its own."""
