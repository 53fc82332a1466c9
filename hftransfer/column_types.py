"""The types of columns, as `datasets` has them: what answers and inputs ask of a feature."""

from __future__ import annotations

import re
from typing import Any

STRINGS, NUMBERS = ("string", "large_string"), ("int", "uint", "float")


def is_value(feature: Any, *dtypes: str) -> bool:
    """Tell whether a feature is a plain value of one of these types, by the word before any digits."""
    from datasets import Value

    return isinstance(feature, Value) and re.sub(r"[\d\[(].*", "", str(feature.dtype)) in dtypes


def is_list(feature: Any) -> bool:
    """Tell whether a column holds a list for each row."""
    from datasets import LargeList, List

    return isinstance(feature, List | LargeList)


def element(feature: Any) -> Any:
    """Return what a list's entries are, and any other feature itself."""
    return feature.feature if is_list(feature) else feature


def type_name(feature: Any) -> str:
    """Return a column's type in one or a few words."""
    from datasets import Json, Value

    if isinstance(feature, Value):
        return str(feature.dtype)
    if is_list(feature):
        return f"list of {type_name(feature.feature)}"
    if isinstance(feature, Json):
        return "values of several types"
    return "struct" if isinstance(feature, dict) else type(feature).__name__
