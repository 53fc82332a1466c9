"""RunConfig: what to train, as one frozen tree that YAML, JSON, the command line and a form all describe alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from hftransfer.yaml_core import dump_yaml

SCHEMA = 2  # of the form of a configuration; files that travel (run.yaml) name it under `schema`
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
Share = Annotated[float, Field(gt=0, lt=1)]


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
    """Random changes to training images and recordings, keyed by (seed, epoch, row): a resumed run repeats them."""

    crop: Annotated[float, Field(gt=0, le=1)] = 0.7  # smallest share of the area that a random crop keeps
    flip: bool = True  # mirror left and right, half of the time
    upside_down: bool = False  # turn upside down, half of the time
    color: Annotated[float, Field(ge=0, lt=1)] = 0.2  # brightness, contrast and saturation vary by up to this share
    mosaic: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of pictures of boxes or masks that are made of four
    gain: Annotated[float, Field(ge=0, le=40)] = 6.0  # recordings are made louder or softer by up to so many dB
    noise: Annotated[float, Field(ge=0, le=1)] = 0.1  # loudest white noise, as a share of a recording's own loudness
    time_mask: Annotated[float, Field(ge=0, lt=1)] = 0.0  # longest stretch that is silenced, as a share of the time


class DataConfig(Section):
    """Which rows, which of their columns, and how they are split."""

    source: str
    name: str | None = None
    revision: str | None = None
    columns: FrozenMap[str | tuple[str, ...]] = Field(default_factory=lambda: MappingProxyType({}))
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    validation_size: Size = 0.1
    test_size: Size = 0.2
    max_rows: Count | None = None
    group: str | Literal[False] | None = None  # none: as the files say whose they are, where they do
    streaming: bool = False
    problem_type: str | None = None  # the kind of answer, where a column could be read as several
    encoding: str | None = None  # of text files
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None  # between the fields of a line
    quoting: Literal["double", "backslash", "none"] | None = None  # how quotes inside quoted fields are written
    header: bool | tuple[str, ...] | None = None  # whether the first line names the columns; or their names
    key: str | None = None  # of a JSON file, under which the rows stand
    decimal: Literal[".", ","] | None = None  # in numbers of text files
    lists: bool | None = None  # whether texts like "['a', 'b']" are read as lists
    split_column: str | Literal[False] | None = None  # whose values say which split a row is in
    sentence_column: str | None = None  # whose values say which sentence a row is a word of
    form: Literal["text", "completion", "chat"] | None = None  # of texts to go on from; none: by the rows
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    label_pattern: Annotated[str, Field(min_length=1)] | None = None  # where a file's path holds its class
    label_names: tuple[str, ...] | None = None  # of labels that are numbers, from 0 on
    label_colors: tuple[str, ...] | None = None  # of masks: the colour of each of label_names, "#ff8000"
    ignore_value: int | None = None  # of pixels of masks that are neither learned nor measured; none: by the masks
    tile: Annotated[int, Field(ge=16)] | None = None  # pixels a side of the tiles of large pictures; none: whole
    background_class: str | None = None  # of masks: what is around the objects; "none": nothing; none: by the masks
    bad_rows: Literal["drop", "refuse"] = "drop"
    max_length: Count | None = None
    stride: Count | None = None  # tokens that two windows of a long text share; none: a quarter of max_length
    max_seconds: Annotated[float, Field(gt=0)] | None = None  # of a recording at once; none: 30, or the model's own
    max_target_length: Count | None = None  # tokens of a target, of tasks that answer with texts
    # what becomes of training rows whose target is longer; none: cut, but of transcripts, which are refused
    long_targets: Literal["cut", "drop", "refuse"] | None = None
    packing: bool = False  # several rows of train in one item, none of which sees another
    history: Count | None = None  # items of somebody's history that a model reads, the newest; none: 20
    cut: Literal["time", "user", "last"] = "time"  # what divides interactions into splits
    crowd: bool = True  # what people had counts beside what a model reads of items, as validation rows say
    prefix: str | None = (
        None  # what stands before each input, such as "summarize: "; none: what the model's config says
    )
    entry_prefix: str | None = None  # what stands before each entry of a catalogue, such as "passage: "
    source_language: str | None = None  # codes of the tokenizer, of models that mark texts with their language
    target_language: str | None = None
    unlabelled: str | None = None  # a table file or a folder of pictures without labels
    corrections: str | None = None  # a CSV file of labels that people mended
    added: str | None = None  # a file of JSON lines: rows that people added to train
    label_issues: bool = True  # look for rows of train that are likely labelled wrongly
    likely_copies: bool = True  # look for rows whose features are nearly the same
    boxes: Literal["xywh", "xyxy", "cxcywh"] | None = None  # what the four numbers of a box are; none: by the values
    window: Literal["own", "same"] | None = (
        None  # of DICOM files: each by its own, or by data.depth; none: by the rows
    )
    depth: tuple[float, float] | None = None  # of deep pictures: what is shown as 0 and as 255; none: by the rows
    background: Literal["white", "black"] | None = None  # behind the transparent parts of pictures; none: white
    reduced: bool = True  # train on smaller copies of pictures that are far larger than the model takes
    augmentation: Annotated[
        Augmentation | None, BeforeValidator(lambda v: {True: {}, False: None}.get(v, v) if isinstance(v, bool) else v)
    ] = Augmentation()  # `false` turns it off

    @property
    def column_names(self) -> dict[str, str]:
        """The column of each role; where several were named, the one that they are joined to."""
        return {role: found if isinstance(found, str) else ", ".join(found) for role, found in self.columns.items()}


class MethodConfig(OpenSection):
    """How the weights are adapted; the other names are the method's own (peft's, for a peft method)."""

    name: str = "auto"


class TrainConfig(OpenSection):
    """TrainingArguments' own names, some that transformers keeps elsewhere, and who chooses what is not set."""

    auto: bool = True  # rules choose what is not set, by rows and model; false: three epochs at the method's own rate
    class_weights: Literal["balanced"] | FrozenMap[float] | None = None
    early_stopping_patience: Count | None = None
    early_stopping_threshold: Annotated[float, Field(ge=0)] = 0.0
    save_minutes: Annotated[float | None, Field(gt=0)] = None  # a checkpoint so often, beside save_strategy's


class Cost(Section):
    """What a wrong answer costs, in any unit."""

    false_positive: Annotated[float, Field(gt=0)]
    false_negative: Annotated[float, Field(gt=0)]


class OperatingPoint(Section):
    """From which probability on a label is given: what that has to reach on validation rows, or must cost least."""

    specificity: Share | None = None
    sensitivity: Share | None = None
    cost: Cost | None = None

    @model_validator(mode="after")
    def _one(self) -> OperatingPoint:
        if sum(value is not None for value in (self.specificity, self.sensitivity, self.cost)) != 1:
            raise ValueError("one of specificity, sensitivity and cost")
        return self


class EvaluationConfig(Section):
    """What is measured on the test rows, and how sure it is."""

    metrics: tuple[str, ...] = ()
    at: OperatingPoint | None = None
    positive: str | None = None  # the class that is looked for, of two; none: by its name, else the rarer one
    prevalence: Share | None = None  # of the positive class where the model is used; none: that of the test rows
    folds: Annotated[int, Field(ge=2)] | None = None  # of a cross-validation beside the test split
    repeats: Count = 1  # of all folds, each with others
    slices: tuple[str, ...] = ()  # columns by whose values the test is told apart
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 2000
    calibrate: bool = True
    max_new_tokens: Count | None = None  # that are written; none: half as many again as the longest target of train
    forgetting: bool = True  # of models that go on from a text: read general text before and after training
    num_beams: Count | None = None  # none: as the model's own settings of generation say


class AutoConfig(Section):
    """What `method.name=auto` may take."""

    minutes: Annotated[float, Field(gt=0)] | None = None  # of fitting; none: as long as the best there is takes
    trials: bool = True  # measure the learning rate; false: by rule


class HubConfig(Section):
    """Where a run is published; no token ever."""

    repo: str | None = None
    private: bool = True
    push: bool = False
    checkpoints: bool = False
    onnx: bool = False
    license: str | None = None


class SpeedConfig(Section):
    """Settings that change seconds, not results: measured on this machine unless given."""

    tune: bool = True
    attention: str | None = None
    short_clips: bool = True  # train a Whisper's encoder on as much of its 30 seconds as clips fill
    threads: Count | None = None


class RunConfig(Section):
    """Everything that decides what a run computes."""

    task: str
    model: str
    revision: str | None = None
    allow_pickle: bool = False
    data: DataConfig
    method: MethodConfig = MethodConfig()
    auto: AutoConfig = AutoConfig()
    train: Annotated[TrainConfig, BeforeValidator(lambda v: {} if v == "auto" else v)] = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    hub: HubConfig = HubConfig()
    speed: SpeedConfig = SpeedConfig()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    output: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and scalars: what YAML and JSON write."""
        return dict(_plain(self.model_dump()))

    def to_yaml(self) -> str:
        """Return YAML that `read_yaml` reads back to the same object, this version's schema named."""
        return dump_yaml({"schema": SCHEMA, **without_defaults(self)})

    def to_json(self) -> str:
        """Return JSON that `build(json.loads(...))` reads back to the same object."""
        return json.dumps(self.to_dict())


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


from hftransfer.config import building  # noqa: E402  (its functions need the tree)

as_now, build, override, read_tree = building.as_now, building.build, building.override, building.read_tree
