"""A model: its weights and processor, batches of rows for it, and the loop that asks it."""
