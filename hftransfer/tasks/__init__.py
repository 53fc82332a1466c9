"""What can be learned: one file a task, named as the Hub's task tag."""
