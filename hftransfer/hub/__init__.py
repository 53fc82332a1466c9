"""The Hugging Face Hub: what must be true before a run, publishing what it made, and taking it up again."""
