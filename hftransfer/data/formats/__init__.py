"""Readers of files, one module a family: `look` finds out how a file is to be read, and its form reads it."""
