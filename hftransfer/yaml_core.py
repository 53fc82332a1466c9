"""YAML as this project writes and reads it: plain values of the core schema, and nothing that makes an object."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, ClassVar

import yaml

_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


UNWRITABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # start from none of the 1.1 rules

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would not read as a string, so that any reader agrees."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # the Unicode line ends would be folded to blanks in any other style
    style = '"' if set(value) & set("\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


for _name, (_pattern, _first) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)


_Dumper.add_representer(str, _text)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def written(value: Any) -> str:
    """Return a value as `override` reads it back: plain where that is the same, JSON (which is YAML) otherwise."""
    if isinstance(value, str):
        try:
            if read_yaml(value) == value and "\n" not in value:
                return value
        except yaml.YAMLError:
            pass
    # JSON leaves characters as they are that YAML takes for line ends, or does not take at all
    return UNWRITABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def assigned(word: str) -> str:
    """Return a word as it stands behind `a.b=` in a shell, so that `override` reads that word."""
    text = written(word)
    if re.fullmatch(r"[\w./:-]+", text):
        return text
    return f'"{text}"' if text == word else shlex.quote(text)


def read_yaml(text: str) -> Any:
    """Read YAML 1.2 (core schema); a key that stands twice is an error, and so is what nests without end."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise yaml.YAMLError("it nests too deeply to be read") from error


def dump_yaml(tree: Any) -> str:
    """Write YAML in the order given."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
