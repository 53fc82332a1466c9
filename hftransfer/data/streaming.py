"""Rows that are larger than the disk: one pass counts and checks them and spools validation and test; train stays a stream."""


def stream(*a):
    raise NotImplementedError
