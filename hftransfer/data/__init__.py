"""Rows from any source, in canonical columns, split, checked and fingerprinted."""

from hftransfer.data.inputs import read_inputs
from hftransfer.data.loading import Data, load

__all__ = ["Data", "load", "read_inputs"]
