"""Fitting a model by gradient descent: Trainer with our loss, order of rows, record and stop."""
