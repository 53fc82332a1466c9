"""RunConfig: what to train, as one frozen tree that YAML, JSON, the command line and a form all describe alike."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from hftransfer.errors import ConfigError, Problem, UserError, hint

SCHEMA = 1  # of the form of a configuration; files that travel (run.yaml) name it under `schema`

V = TypeVar("V")
FrozenMap = Annotated[
    Mapping[str, V],
    AfterValidator(lambda value: MappingProxyType(dict(value))),
    PlainSerializer(lambda value: dict(value)),
]


def _size(value: Any) -> Any:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (0 < value < 1 or value == int(value) >= 1)
    ):
        raise ValueError("a share of the rows between 0 and 1, or a number of rows")
    return value if value < 1 else int(value)


Size = Annotated[int | float, BeforeValidator(_size)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen part of the tree whose names are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, ser_json_inf_nan="constants")


class OpenSection(Section):
    """A frozen part whose other names belong to a neighbour (TrainingArguments, peft) and pass through untouched."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _freeze(cls, value: Any) -> Any:
        return {k: _frozen(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    @property
    def options(self) -> dict[str, Any]:
        """The neighbour's options, as plain lists and dicts."""
        return {name: _plain(value) for name, value in (self.__pydantic_extra__ or {}).items()}


class Augmentation(Section):
    """Random changes to training images, keyed by (seed, epoch, row) so that a resumed run repeats them."""

    crop: Annotated[float, Field(gt=0, le=1)] = 0.7  # smallest share of the area that a random crop keeps
    flip: bool = True  # mirror left and right, half of the time
    color: Annotated[float, Field(ge=0, lt=1)] = 0.2  # brightness, contrast and saturation vary by up to this share


class DataConfig(Section):
    """Which rows, which of their columns, and how they are split."""

    source: str
    name: str | None = None
    revision: str | None = None
    columns: FrozenMap[str] = Field(default_factory=lambda: MappingProxyType({}))
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    validation_size: Size = 0.1
    test_size: Size = 0.2
    max_rows: Count | None = None
    group: str | None = None
    streaming: bool = False
    problem_type: Literal["single_label", "multi_label", "regression"] | None = None
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    bad_rows: Literal["drop", "refuse"] = "drop"
    max_length: Count | None = None
    unlabelled: str | None = None  # a table file or a folder of pictures without labels
    label_issues: bool = True  # look for rows of train that are likely labelled wrongly
    likely_copies: bool = True  # look for rows whose features are nearly the same
    augmentation: Annotated[
        Augmentation | None, BeforeValidator(lambda v: {True: {}, False: None}.get(v, v) if isinstance(v, bool) else v)
    ] = Augmentation()  # `false` turns it off


class MethodConfig(OpenSection):
    """How the weights are adapted; the other names are the method's own (peft's, for a peft method)."""

    name: str = "full"


class TrainConfig(OpenSection):
    """TrainingArguments' own names, and three that transformers keeps elsewhere."""

    class_weights: Literal["balanced"] | FrozenMap[float] | None = None
    early_stopping_patience: Count | None = None
    early_stopping_threshold: Annotated[float, Field(ge=0)] = 0.0


class EvaluationConfig(Section):
    """What is measured on the test rows, and how sure it is."""

    metrics: tuple[str, ...] = ()
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 2000
    calibrate: bool = True


class HubConfig(Section):
    """Where a run is published; no token ever."""

    repo: str | None = None
    private: bool = True
    push: bool = False
    checkpoints: bool = False
    license: str | None = None


class SpeedConfig(Section):
    """Settings that change seconds, not results: measured on this machine unless given."""

    tune: bool = True
    attention: str | None = None
    threads: Count | None = None


class RunConfig(Section):
    """Everything that decides what a run computes."""

    task: str
    model: str
    revision: str | None = None
    allow_pickle: bool = False
    data: DataConfig
    method: MethodConfig = MethodConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    hub: HubConfig = HubConfig()
    speed: SpeedConfig = SpeedConfig()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    output: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and scalars: what YAML and JSON write."""
        return dict(_plain(self.model_dump()))

    def to_yaml(self) -> str:
        """Return YAML that `read_yaml` reads back to the same object."""
        return dump_yaml(without_defaults(self))

    def to_json(self) -> str:
        """Return JSON that `build(json.loads(...))` reads back to the same object."""
        return json.dumps(self.to_dict())


def build(tree: Mapping[str, Any], extra: Iterable[Problem] = ()) -> RunConfig:
    """Validate a plain tree, raising ConfigError with every problem found here and in `extra`."""
    problems = list(extra)
    config = None
    if "schema" in tree:
        problems += _schema_problems(tree["schema"])
        tree = {name: value for name, value in tree.items() if name != "schema"}
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        problems = [*_problems(error), *problems]
    if config is None or problems:
        raise ConfigError(problems)
    return config


def _schema_problems(found: Any) -> list[Problem]:
    if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= SCHEMA:
        return []
    wanted = f"a form that this version reads is needed (1 to {SCHEMA}); this file has {_show(found)}."
    return [Problem("schema", f"{wanted} Upgrade: pip install -U hftransfer-learning")]


def read_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML (or JSON) file and apply `a.b=c` overrides to it."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            "a configuration file is needed", f"{str(path)!r} is not a file", "Check the path; see configs/."
        )
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be YAML", " ".join(str(error).split()), "Mend the file.") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold names and values", f"it holds {_kind(tree)}", "Start it with 'task: ...'.")
    return override(tree, overrides)


def override(tree: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the tree with `a.b=value` assignments applied, each value read as YAML."""
    result = json.loads(json.dumps(tree)) if _jsonable(tree) else dict(tree)
    problems = []
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", dotted):
            problems.append(Problem("", f"an override looks like data.source=rows.csv; found {assignment!r}."))
            continue
        *parents, last = dotted.split(".")
        node = result
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[last] = _value(text)
    if problems:
        raise ConfigError(problems)
    return result


def _value(text: str) -> Any:
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return text  # a Windows path or a text with ': ' is meant as it stands


# --- YAML 1.2: `1e-4` is a number, `no` and `on` are words (PyYAML reads 1.1) ---

_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


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


def read_yaml(text: str) -> Any:
    """Read YAML 1.2 (core schema); a key that stands twice is an error."""
    return yaml.load(text, Loader=_Loader)


def dump_yaml(tree: Any) -> str:
    """Write YAML in the order given."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def without_defaults(config: RunConfig) -> dict[str, Any]:
    """Return plain values, those alone that differ from their defaults."""
    return dict(_plain(config.model_dump(exclude_defaults=True)))


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({k: _frozen(v) for k, v in value.items()})
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _jsonable(tree: Any) -> bool:
    try:
        json.dumps(tree)
    except (TypeError, ValueError):
        return False
    return True


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", type(None): "nothing"}.get(type(value), f"a {type(value).__name__}")


# --- messages ---


def _problems(error: ValidationError) -> list[Problem]:
    found: dict[str, Problem] = {}
    for item in error.errors():
        path = _dotted(item["loc"])
        # a union reports once per member; the path up to its last name says the same thing once
        found.setdefault(path, Problem(path, _message(item, path)))
    return list(found.values())


def _dotted(location: tuple[int | str, ...]) -> str:
    names: list[str] = []
    node: Any = RunConfig
    for part in location:
        fields = node.model_fields if isinstance(node, type) and issubclass(node, BaseModel) else None
        if fields is not None and part in fields:
            names.append(str(part))
            node = _section_of(fields[str(part)].annotation)
        elif fields is not None:
            if not re.search(r"[\[(]", str(part)):
                names.append(str(part))
            node = None
        elif isinstance(part, int):
            names.append(str(part))
    return ".".join(names)


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type):
        return annotation
    found = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
    return found[0] if found else None


def _message(item: Any, path: str) -> str:
    value, kind, context = item.get("input"), item["type"], item.get("ctx", {})
    if kind == "missing":
        return f"a value is needed; none was given. Set {path}=..."
    if kind == "extra_forbidden":
        return f"no such option. {hint(path.rpartition('.')[2], _siblings(path))}"
    if kind == "literal_error":
        return f"wanted {context['expected']}; found {_show(value)}."
    wanted = str(item["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    if wanted.startswith(("greater", "less")):
        wanted = f"a value {wanted}"
    return f"wanted {wanted}; found {_show(value)}."


def _siblings(path: str) -> list[str]:
    node: Any = RunConfig
    for name in path.split(".")[:-1]:
        node = _section_of(node.model_fields[name].annotation)
    return list(node.model_fields)


def _show(value: Any) -> str:
    text = repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
