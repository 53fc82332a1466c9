"""The values of the neighbours' options: of the right type, in the range that the option's meaning has."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftransfer.errors import LISTABLE, nearest
from hftransfer.upstream.options import Option
from hftransfer.upstream.types import Wanted

TRUTH = {"true": True, "false": False}
SHOWN = 60  # characters of a value in a message
BLANK = re.compile(r"\\?\[[^\]]*\\?\]")  # pissa_niter_[number of iters]


class Unfit(ValueError):
    """A value that an option does not take; the message says what is wanted and what was found."""


@dataclass(frozen=True)
class Range:
    """The numbers that an option's meaning allows: `test`, and the same in words."""

    words: str
    test: Callable[[float], bool]


POSITIVE = Range("above 0", lambda n: n > 0)
NOT_NEGATIVE = Range("of 0 or more", lambda n: n >= 0)
COUNT = Range("of 1 or more", lambda n: n >= 1)
SHARE = Range("from 0 to 1", lambda n: 0 <= n <= 1)
BELOW_ONE = Range("from 0 to below 1", lambda n: 0 <= n < 1)
STEPS = Range("above 0: a number of steps, or below 1 a share of them", lambda n: 0 < n < 1 or n == int(n) > 0)
WARM_UP = Range("of 0 or more: a number of steps, or below 1 a share of them", lambda n: n >= 0)
ALL_STEPS = Range("of 1 or more, or -1 for all epochs", lambda n: n >= 1 or n == -1)

# by what the names mean; where the option's own default lies outside, it means something else there (OFT's r=0)
RANGES: dict[str, Range] = {
    "learning_rate": NOT_NEGATIVE, "num_train_epochs": POSITIVE, "max_steps": ALL_STEPS,
    "per_device_train_batch_size": COUNT, "per_device_eval_batch_size": COUNT, "gradient_accumulation_steps": COUNT,
    "warmup_steps": WARM_UP, "weight_decay": NOT_NEGATIVE, "adam_beta1": BELOW_ONE, "adam_beta2": BELOW_ONE,
    "adam_epsilon": NOT_NEGATIVE, "max_grad_norm": NOT_NEGATIVE, "label_smoothing_factor": BELOW_ONE,
    "neftune_noise_alpha": NOT_NEGATIVE, "logging_steps": STEPS, "eval_steps": STEPS, "save_steps": STEPS,
    "eval_delay": NOT_NEGATIVE, "eval_accumulation_steps": COUNT, "save_total_limit": COUNT,
    "torch_empty_cache_steps": COUNT, "dataloader_num_workers": NOT_NEGATIVE, "dataloader_prefetch_factor": COUNT,
    "ddp_timeout": COUNT, "ddp_bucket_cap_mb": COUNT,
    "r": COUNT, "init_r": COUNT, "target_r": COUNT, "lora_alpha": POSITIVE, "alpha": POSITIVE, "beta1": SHARE,
    "beta2": SHARE, "tinit": NOT_NEGATIVE, "tfinal": NOT_NEGATIVE, "deltaT": COUNT, "total_step": COUNT,
    "n_frequency": COUNT, "num_vectors": COUNT, "vector_length": COUNT, "topk": COUNT, "block_size": COUNT,
    "oft_block_size": NOT_NEGATIVE, "boft_block_size": NOT_NEGATIVE, "boft_block_num": NOT_NEGATIVE,
    "sparsity": SHARE, "sparse_rate": SHARE,
}  # fmt: skip
# closed sets that the annotations leave open; a test asks the installed source for each word
WORDS: dict[str, tuple[str, ...]] = {
    "log_level": ("debug", "info", "warning", "error", "critical", "passive"),
    "log_level_replica": ("debug", "info", "warning", "error", "critical", "passive"),
    "include_num_input_tokens_seen": ("all", "non_padding", "no"),
}


def read(option: Option, value: Any) -> Any:
    """Return a value as its option takes it: a number or a truth value that came as text is read as one.

    Raises Unfit for a value of another type, a word of no closed set, or a number out of range.
    """
    takes = option.takes
    if takes.anything:
        return value
    found = _read(takes, value, option)
    if isinstance(found, int | float) and not isinstance(found, bool):
        _require_range(option, found)
    words = WORDS.get(option.name, ())
    if isinstance(found, str) and words and found not in words:
        raise _unfit(_either(words), value, _meant(found, words))
    return found


def _read(takes: Wanted, value: Any, option: Option) -> Any:
    if value is None:
        if "null" in takes.types or option.default == "None":
            return None
        raise _unfit(_words(takes, option), None)
    if any(_is(value, choice) for choice in takes.choices):
        return value
    for kind in ("bool", "int", "float"):
        if kind in takes.types:
            found = _number(kind, value, text="str" not in takes.types)
            if found is not None:
                return found
    if isinstance(value, list | tuple) and "list" in takes.types:
        return [value_of(takes.items, one, option) for one in value]
    if isinstance(value, Mapping) and "dict" in takes.types:
        return dict(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and takes.types & {"str", "dict"} == {"str"}:
        value = str(value)  # run_name=2026
    if isinstance(value, str):
        return _text(takes, value, option)
    raise _wrong(takes, value, option)


def value_of(takes: Wanted | None, value: Any, option: Option) -> Any:
    """Return one member of a list as its option takes it; see `read`."""
    return value if takes is None or takes.anything else _read(takes, value, option)


def _text(takes: Wanted, value: str, option: Option) -> str:
    words = [choice for choice in takes.choices if isinstance(choice, str)]
    if words:
        if any("[" in word and re.fullmatch(BLANK.sub(r"\\d+", re.escape(word)), value) for word in words):
            return value
        raise _unfit(_words(takes, option), value, _meant(value, words))
    if "str" not in takes.types:
        raise _wrong(takes, value, option)
    if "dict" in takes.types and not _holds_mapping(value):
        raise _unfit("a mapping, or the path of a JSON file that holds one", value)
    return value


def _holds_mapping(text: str) -> bool:
    if not text.startswith("{"):
        try:
            return Path(text).is_file()
        except (OSError, ValueError):
            return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _number(kind: str, value: Any, text: bool) -> Any:
    """Return a value as bool, int or float; None where it is none. `text`: whether a text may hold it."""
    if kind == "bool":
        if isinstance(value, str):
            return TRUTH.get(value.lower()) if text else None
        return bool(value) if isinstance(value, int) and value in (0, 1) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and not text):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    whole = math.isfinite(found) and found == int(found)
    if kind == "int":
        return (value if isinstance(value, int) else int(found)) if whole else None
    return value if isinstance(value, int | float) else found


def _require_range(option: Option, value: float) -> None:
    if not math.isfinite(value):
        raise _unfit(f"{_words(option.takes, option)} that is finite", value)
    limits = _range_of(option)
    if limits is not None and not limits.test(value):
        raise _unfit(_words(option.takes, option), value)


def _range_of(option: Option) -> Range | None:
    limits = BELOW_ONE if option.name.endswith("dropout") else RANGES.get(option.name)
    try:
        default = ast.literal_eval(option.default or "None")
    except ValueError:  # a name, which stands for no number
        default = None
    outside = limits is not None and isinstance(default, int | float) and not limits.test(default)
    return None if outside else limits


def _is(value: Any, choice: object) -> bool:
    return type(value) is type(choice) and value == choice


def _wrong(takes: Wanted, value: Any, option: Option) -> Unfit:
    if not str(takes):
        return _unfit(f"a {', '.join(takes.made)}, which only Python code can make", value, "Leave it out.")
    if isinstance(value, str) and "list" in takes.types:
        return _unfit(_words(takes, option), value, f"Write [{value}].")
    return _unfit(_words(takes, option), value)


def _words(takes: Wanted, option: Option) -> str:
    """Return what an option takes in words, with the range of its numbers."""
    words = [str(choice) for choice in takes.choices]
    if len(words) > LISTABLE and not takes.types & {"bool", "int", "float", "list", "dict"}:
        return f"one of {len(words)} words"
    limits = _range_of(option)
    return f"{takes} {limits.words}" if limits is not None and takes.types & {"int", "float"} else str(takes)


def _unfit(wanted: str, value: Any, action: str = "Set one, or leave it out.") -> Unfit:
    found = "nothing" if value is None else shown(value)
    return Unfit(f"wanted {wanted}; found {found}. {action}")


def _meant(value: str, words: Sequence[str]) -> str:
    match = nearest(value, words)
    return f"Did you mean {match!r}?" if match else "Set one, or leave it out."


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def shown(value: Any) -> str:
    """Return a value as a message quotes it."""
    plain = dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
    text = repr(plain)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
