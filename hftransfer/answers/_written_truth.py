"""What strings in a column of truth are meant as: names, numbers, or several names in one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from hftransfer.column_types import STRINGS, is_value
from hftransfer.errors import UserError

if TYPE_CHECKING:
    from hftransfer.config import DataConfig

WHOLE = re.compile(r"-?[0-9]+")
DECIMAL = re.compile(r"[-+]?[0-9]*\.[0-9]+")
COMMA = re.compile(r"[-+]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]+)(,[0-9]+)?")  # 3,5 and 1.234,5
THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(,[0-9]{3})+")
POINT = re.compile(r"[-+]?([0-9]{1,3}(,[0-9]{3})+|[0-9]+)(\.[0-9]+)?")  # 3.5 and 1,234.5
POINTS = re.compile(r"[-+]?[1-9][0-9]{0,2}(\.[0-9]{3})+")  # 1.234: may be thousands, as much of Europe writes them
EXPONENT = r"([eE][-+]?[0-9]+)?"
FORMS = {  # of numbers as texts, by what stands before their decimals; None: as programs write them
    None: r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)" + EXPONENT,
    ",": r"[-+]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]*)(,[0-9]+)?" + EXPONENT,
    ".": r"[-+]?([0-9]{1,3}(,[0-9]{3})+|[0-9]*)(\.[0-9]*)?" + EXPONENT,
}
NO_NUMBER = ("nan", "inf", "infinity")  # which programs write for one, and which teaches nothing
MISSING = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "?", "-"})  # names, or gaps
SEPARATORS = (",", ";", "|", "/")


def distinct(values: pa.Array) -> list[str]:
    """Return the different strings of a column, without blanks around them and without empty ones."""
    return [value for value in pc.unique(pc.utf8_trim_whitespace(values.drop_null())).to_pylist() if value]


def by_size(names: Sequence[str]) -> list[str]:
    """Return names in their order: numbers by size, words from a to z."""
    if all(WHOLE.fullmatch(as_whole(name)) for name in names):
        return sorted(names, key=lambda name: (int(as_whole(name)), name))
    return sorted(names)


def as_whole(name: str) -> str:
    """Return a whole number as it is usually written, 1 for 1.0, as programs write that have met a gap; else names."""
    whole, _, places = name.partition(".")
    return whole if places and set(places) == {"0"} and WHOLE.fullmatch(whole) else name


def refuse_scores(values: Sequence[str], column: str, single: str, number: str | None) -> None:
    """Raise UserError for decimals that may well be numbers: those that are written as numbers are, all alike."""
    if any("," in value for value in values) and all(re.fullmatch(r"[-+]?[0-9]+(,[0-9]+)?", v) for v in values):
        values = [value.replace(",", ".") for value in values]  # decimals as much of Europe writes them
    decimals = [value for value in values if DECIMAL.fullmatch(value)]
    if not decimals or not all(DECIMAL.fullmatch(value) or WHOLE.fullmatch(value) for value in values):
        return
    if len({float(value) for value in values}) < len(values):
        return  # 1.1 and 1.10: what is written tells them apart
    places = [value.partition(".")[2] for value in decimals]
    if all(set(place) == {"0"} for place in places):
        return  # 1.0 and 2.0
    short = all(place == "0" or not place.endswith("0") for place in places)
    if short or len({*map(len, places)}) == 1:
        raise UserError(
            "it must be known whether labels are names or numbers",
            f"`{column}` holds numbers with decimals ({', '.join(decimals[:3])}...)",
            "Set "
            + (f"data.problem_type={number} if they are scores, or " if number else "")
            + f"data.problem_type={single} if they are names.",
        )


def refuse_joined(values: Sequence[str], column: str, single: str) -> None:
    """Raise UserError for names that may well be several in one: whose parts all come back elsewhere."""
    for separator in SEPARATORS:
        joined = [value for value in values if separator in value]
        if not joined:
            continue
        parts = [[part.strip() for part in value.split(separator)] for value in values]
        count: dict[str, int] = {}
        for found in parts:
            for part in set(found):
                count[part] = count.get(part, 0) + 1
        again = all(part and count[part] > 1 for found in parts if len(found) > 1 for part in found)
        if again and len(count) <= len(values):
            raise UserError(
                "it must be known whether a label is one name or several",
                f"`{column}` holds {joined[0]!r}, whose parts at {separator!r} are labels of other rows too",
                f"Set data.label_separator={_quoted(separator)} if it is several, or data.problem_type={single} if it "
                "is one.",
            )


def joined(values: Sequence[str], column: str) -> list[str]:
    """Return a guess where names hold what may divide several, and a part of one is a name by itself."""
    known = set(values)
    for separator in SEPARATORS:
        twice = [v for v in values if separator in v and known & {part.strip() for part in v.split(separator)}]
        if twice:
            return [
                f"`{column}`: {twice[0]!r} is one label, though a part of it is a label by itself "
                f"(data.label_separator={_quoted(separator)} reads several)"
            ]
    return []


def _quoted(separator: str) -> str:
    return f'"{separator}"' if separator in ",|;" else separator


def decimal_sign(values: Sequence[str], column: str) -> tuple[str | None, list[str]]:
    """Return what stands before the decimals of numbers, and what was guessed; UserError where it may be either."""
    commas = [value for value in values if "," in value]
    if not commas:
        return _by_points(values, column)
    if all(THOUSANDS.fullmatch(value) for value in commas) and not any("." in value for value in values):
        raise UserError(
            f"it must be known what the commas in the numbers of `{column}` mean", f"{commas[0]!r} can be read as "
            f"{commas[0].replace(',', '')} or as {commas[0].replace(',', '.')}",
            "Set data.decimal to . if they divide thousands, or to , if decimals stand behind them.",
        )  # fmt: skip
    if all(COMMA.fullmatch(value) for value in values):
        return ",", [f"`{column}`: {commas[0]} is read as {plain(commas[0], ',')} (data.decimal)"]
    if all(POINT.fullmatch(value) for value in values):
        return ".", [f"`{column}`: {commas[0]} is read as {plain(commas[0], '.')} (data.decimal)"]
    return None, []


def _by_points(values: Sequence[str], column: str) -> tuple[str | None, list[str]]:
    """Return the same of numbers without a comma: whether points divide thousands in them."""
    points = [value for value in values if "." in value]
    if not points or not all(POINTS.fullmatch(value) for value in points):
        return None, []
    whole = [value.lstrip("+-") for value in values if "." not in value]
    if any(value.count(".") > 1 for value in points):
        first = next(value for value in points if value.count(".") > 1)
        return ",", [f"`{column}`: {first} is read as {plain(first, ',')} (data.decimal)"]
    if whole and all(value.isdigit() and len(value) <= 3 for value in whole):  # decimals would be of other lengths too
        raise UserError(
            f"it must be known what the points in the numbers of `{column}` mean", f"beside {whole[0]}, "
            f"{points[0]!r} can be read as {plain(points[0], ',')} or as it is written",
            "Set data.decimal to , if they divide thousands, or to . if decimals stand behind them.",
        )  # fmt: skip
    return None, [] if whole else [f"`{column}`: the points in {points[0]} stand before decimals (data.decimal)"]


def plain(value: str, decimal: str) -> str:
    """Return a number as programs write it."""
    return value.replace(".", "").replace(",", ".") if decimal == "," else value.replace(",", "")


def decimals(values: pa.Array | None, feature: Any, column: str, config: DataConfig) -> tuple[str | None, list[str]]:
    """Return what stands before decimals in a column of texts, as the user says or its values show, and a guess."""
    if values is None or not is_value(feature, *STRINGS):
        return None, []
    if config.decimal is not None:
        return config.decimal, []
    return decimal_sign([value for value in distinct(values) if value.lower() not in MISSING], column)


def plain_numbers(values: pa.Array, decimal: str | None) -> pa.Array:
    """Return strings of numbers as programs write them; UserError for what is no number, or is written otherwise."""
    values = pc.replace_substring(values, "\N{MINUS SIGN}", "-")
    fits = pc.match_substring_regex(values, f"^({FORMS[decimal]})$")
    odd = values.filter(
        pc.and_(
            pc.invert(fits),
            pc.invert(pc.is_in(pc.utf8_ltrim(pc.utf8_lower(values), characters="+-"), value_set=pa.array(NO_NUMBER))),
        )
    )
    if len(odd.drop_null()):
        some = ", ".join(repr(value) for value in pc.unique(odd.drop_null()).to_pylist()[:3])
        signs = "" if decimal is None else f", with `{decimal}` before decimals (data.decimal)"
        raise UserError(
            f"a column of numbers is needed{signs}", f"{some} {'is' if len(odd) == 1 else 'are'} not written so",
            "Write them all in one way, without units, or name another column.",
        )  # fmt: skip
    if decimal == ",":
        return pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")
    return pc.replace_substring(values, ",", "") if decimal == "." else values
