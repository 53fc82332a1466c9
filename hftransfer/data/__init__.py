"""Rows from any source, in canonical columns, split, checked and fingerprinted."""

from hftransfer.data.inputs import Unanswerable, read_inputs
from hftransfer.data.loading import Data, load

__all__ = ["Data", "Unanswerable", "load", "read_inputs"]
