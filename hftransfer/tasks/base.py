"""What a task is: the columns it needs, its Auto classes, how rows become what a model reads, what it answers with.

A task is a stateless object in one file of this package, named as the Hub's task tag with `_` for `-`. It never
loads a model or a file. Heavy libraries are imported inside the functions that need them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hftransfer.answers.base import Answer
from hftransfer.inputs.base import Input

if TYPE_CHECKING:
    from hftransfer.config import DataConfig
    from hftransfer.safety.shelf import Shelf


@dataclass(frozen=True)
class Role:
    """A part that a column plays: what values it holds, and the whole words by which such columns are often named.

    `takes` is the kind of input that a model is shown; None for the role that is the truth. Several rows may be about
    one value of a role that is `shared`: a text and the questions about it. One that `teaches` is no part of what a
    model is asked later; one that `asks` is given then, and stands in no data.
    """

    name: str
    takes: Input | None
    about: str
    words: tuple[str, ...]
    required: bool = True
    shared: bool = False
    teaches: bool = False
    asks: bool = False

    @property
    def asked(self) -> str:
        """What a person gives who asks a model: what the role is about, or what its kind is written as."""
        own = None if self.takes is None or not self.takes.rewritten else self.takes.asked
        return own or self.about.partition(",")[0]

    @property
    def answer(self) -> bool:
        """Whether the column is the truth."""
        return self.takes is None


def truth(name: str, about: str, words: tuple[str, ...]) -> Role:
    """Return the role of the column that holds what is to be answered."""
    return Role(name, None, about, words)


@dataclass(frozen=True)
class Preparation:
    """What preparing depends on besides the rows: the data section, the answer, the seed, and the model's limits.

    `max_length` and `max_target_length` are in tokens.
    """

    config: DataConfig
    answer: Answer[Any]
    seed: int
    max_length: int | None = None
    max_target_length: int | None = None
    training: bool = False  # whether the rows are going to be trained on
    shelf: Shelf | None = None  # where copies of what is slow to read may be kept while a run lasts


@dataclass(frozen=True)
class Known:
    """A well-known model of the Hub that a task may start from: what a short list says without asking anyone."""

    repo: str
    about: str
    parameters: str
    licence: str


@dataclass(frozen=True)
class Arranged:
    """How rows become columns by which a task finds its roles, where their form must be found out first.

    `settings` are those of `data` that this decided; `columns` are given to `both`, batch by batch, and what it
    returns stands in their place (None: the columns stay as they are); `guesses` say what was found out.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    both: Callable[..., dict[str, list[Any]]] | None = None
    guesses: tuple[str, ...] = ()


class Task(ABC):
    """A stateless description of one task; the object of a task's file is its module's `TASK`."""

    name: ClassVar[str]
    about: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]]
    answers: ClassVar[tuple[Answer[Any], ...]]  # the usual one first
    auto_model: ClassVar[str]  # the Auto class of transformers, by name: looking it up imports it
    auto_processor: ClassVar[str]
    processor_options: ClassVar[Mapping[str, Any]] = {}
    pipeline: ClassVar[str | None] = None  # transformers' own for it, None where there is none
    browser: ClassVar[str | None] = None  # transformers.js' own for it, None where there is none
    browser_options: ClassVar[Mapping[str, Any]] = {}  # what it is called with behind the inputs
    browser_takes_all: ClassVar[bool] = False  # whether that takes several inputs of a row
    alone: ClassVar[str] = "With transformers, which has no pipeline for this:"  # before the lines of `snippet`
    tag: ClassVar[str | None] = None  # the Hub's task tag, where it is not the task's name
    library: ClassVar[str] = "transformers"  # whose lines the Hub shows on a model's page
    known_models: ClassVar[tuple[Known, ...]] = ()
    # how a model without a head for these answers may answer, and, by way, the sentences a label's name is put into
    direct: ClassVar[tuple[Literal["entailment", "similarity", "image_text"], ...]] = ()
    templates: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    by_length: ClassVar[bool] = True  # whether long rows are read whole where the model can: see `modeling.lengths`
    an_item_a_row: ClassVar[bool] = False  # of texts: whether every row is one item, whatever it holds
    gathers: ClassVar[bool] = False  # whether rows of one value of the first role are one row, with all their truths
    # how the names of tables begin that are read beside a file of rows, with what those rows are about
    tables_beside: ClassVar[tuple[str, ...]] = ()
    premise: ClassVar[str] = "{} {}"  # what an entailment model is shown of a pair of texts

    def reader(self, settings: Any) -> tuple[str, Mapping[str, Any]]:
        """Return the Auto class of what reads for a model with this config, by name, and its options."""
        return self.auto_processor, self.processor_options

    @property
    def suffixes(self) -> frozenset[str]:
        """The suffixes of files that a table of this task may name: what is shown, or the truth."""
        held = [answer.suffixes for answer in self.answers]
        return frozenset().union(*(role.takes.suffixes for role in self.roles if role.takes is not None), *held)

    @abstractmethod
    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Turn a batch of rows (a list a role) into model inputs: a list or tensor by name, an entry an item.

        Names that begin with `_` never reach the model: `_row` tells from which row of the batch each item comes
        (without it, each row is one), `_truncated` which items lost their end, others are for the answer.
        """

    def cut_at(self, max_length: int | None) -> str:
        """Return where `inputs` cuts what is too long, in words."""
        return f"{max_length} tokens"

    def arranged(self, first: list[dict[str, Any]], features: Mapping[str, Any], config: DataConfig) -> Arranged:
        """Return the form of rows whose columns do not tell their roles, by the first of them."""
        return Arranged()

    def items(
        self, rows: Mapping[str, list[Any]], truth: list[Any] | None, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        """Turn a batch of rows and their truth (None where nobody knows it) into items; see `inputs`.

        What is trained on stands beside the inputs, as the kind of answer says. A task whose model reads the truth as
        a part of its input makes both at once.
        """
        found = self.inputs(rows, processor, preparation)
        found.setdefault("_row", list(range(len(next(iter(rows.values()))))))
        if "input_ids" in found:
            found.setdefault("_length", [len(ids) for ids in found["input_ids"]])
        return found | preparation.answer.targets(truth, found, processor, preparation)

    # how rows lie in their files where answers are entries of a catalogue: questions beside a corpus, or interactions
    reads: ClassVar[Literal["collection", "interactions"] | None] = None

    @property
    def crosses(self) -> bool:
        """Whether a row may stand in any split, so that folds can be made of them all: not where time divides them."""
        return self.reads != "interactions"

    def entries(self, texts: list[str], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Turn texts of the catalogue into model inputs, as `inputs` does with rows."""
        raise NotImplementedError(f"{self.name} has no catalogue")

    def seen(self, pictures: list[Any], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Turn pictures of the catalogue, None where there is none, into model inputs."""
        raise NotImplementedError(f"{self.name} has no catalogue of pictures")

    def listed(self, answer: Mapping[str, Any]) -> tuple[str, str]:
        """Return the library and the tag by which the Hub lists a model that gives this answer (its notes)."""
        return self.library, self.tag or self.name

    also: ClassVar[tuple[str, ...]] = ()  # what else it is called
    lacks: ClassVar[Mapping[str, str]] = {}  # what is asked for by names like its own and is not here: what to do
    whole: ClassVar[str | None] = None  # why all rows must lie on disk, where none can be read as a stream
    splits: ClassVar[bool] = False  # whether an input that is longer than `window` is asked in parts, not cut

    def window(self, processor: Any, config: DataConfig) -> float | None:
        """Return how many seconds of an input a model is shown at once; None where inputs do not last."""
        return None

    def tile(self, config: DataConfig) -> int | None:
        """Return the side of the tiles, in pixels, that large inputs are cut into; None: they are shown whole."""
        return None

    def mixes_lengths(self, processor: Any) -> bool:
        """Tell whether an answer stays the same when inputs of unlike length are asked in one batch."""
        return True

    makes_tokenizer: ClassVar[bool] = False  # whether a model may come without one, because its answer makes it

    def auto_name(self, answer: Answer[Any]) -> str:
        """Return the name of the Auto class that a model with this answer is loaded with."""
        return self.auto_model

    def auto_class(self, settings: Any) -> Any:
        """Return the Auto class that a model of these settings is loaded with."""
        import transformers

        return getattr(transformers, self.auto_model)

    heeds: ClassVar[frozenset[str]] = frozenset()  # settings that are for it: see `data.unheeded`
    carried: ClassVar[tuple[str, ...]] = ()  # settings of `data` that say how a model reads a row: it is asked so

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Return what a stranger must do to an input before transformers' own code is asked, a sentence each."""
        return []

    def given(self, value: str, said: Mapping[str, Any]) -> str:
        """Return an input, as Python writes it, as transformers' own pipeline is given it."""
        return value

    def cut_in_pipeline(self, max_length: int | None) -> str:
        """Return how transformers' own pipeline is told, as Python writes it, to cut a long input as training did."""
        return ""

    unsaid: ClassVar[Mapping[str, Any]] = {}  # of these, how models of ours were asked before their notes said it

    def settle(self, config: DataConfig, settings: Any) -> DataConfig:
        """Return the data section with what a model's own config says of how it is to be asked."""
        return config

    def said(self, config: DataConfig) -> dict[str, Any]:
        """Return the settings by which a model of this task is asked later, as far as they are set."""
        return {name: value for name in self.carried if (value := getattr(config, name)) is not None}

    def words_of(self, role: Role, config: DataConfig) -> tuple[str, ...]:
        """Return the words by which columns of a role are named, of this configuration too."""
        return role.words

    @property
    def shown(self) -> tuple[Role, ...]:
        """The roles that a model is shown."""
        return tuple(role for role in self.roles if not role.answer)

    @property
    def truth(self) -> Role:
        """The role of the truth."""
        return next(role for role in self.roles if role.answer)

    @property
    def lazy(self) -> bool:
        """Whether rows are decoded when they are asked for."""
        return any(role.takes.lazy for role in self.shown if role.takes is not None)

    @property
    def example(self) -> str:
        """An input, as Python writes it."""
        return self.shown[0].takes.example if self.shown[0].takes is not None else '""'

    def row(self, value: Any) -> dict[str, Any]:
        """Turn one input of a user (a text, a path, a picture, a dict by role) into a row, or raise UserError."""
        roles = {role.name: role for role in self.shown}
        if isinstance(value, Mapping):
            given = {name: value[name] for name in roles if value.get(name) is not None}
        elif isinstance(value, tuple | list) and len(value) == len(roles) > 1:
            given = dict(zip(roles, value, strict=True))
        else:
            given = {self.shown[0].name: value}
        for name, role in roles.items():
            if role.required and (name not in given or _is_blank(given[name])):
                from hftransfer.errors import UserError

                assert role.takes is not None
                raise UserError(f"{role.takes.asked} is needed", f"found {value!r}", f"Give {_called(role, roles)}.")
        return {name: roles[name].takes.read(part) for name, part in given.items()}  # type: ignore[union-attr]

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Ask transformers' own pipeline, as a stranger would: an answer like ours, None if it takes no such rows."""
        return None

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Return the Python lines with which a stranger asks a model that has no pipeline; they set `answer`.

        `place`, `revision` and the values of `row` are Python expressions; `notes` is what hftransfer.json holds.
        """
        raise NotImplementedError(f"{self.name} has neither a pipeline nor a snippet")

    def javascript(self, place: str, dtype: str, answer: Answer[Any]) -> str | None:
        """Return the lines with which transformers.js asks its ONNX model; None where it has no pipeline for it.

        `place` and `dtype` (fp32, or q8 for 8 bits a weight) are JavaScript expressions.
        """
        if self.browser is None:
            return None
        return (
            'import { pipeline } from "@huggingface/transformers";\n\n'
            f'const ask = await pipeline("{self.browser}", {place}, {{ dtype: {dtype} }});\n'
            f"const answer = await ask({self.asked_in_javascript(answer)});"
        )

    def asked_in_javascript(self, answer: Answer[Any]) -> str:
        """Return what transformers.js' pipeline is called with, as JavaScript writes it."""
        return self.example + (f", {json.dumps(dict(self.browser_options))}" if self.browser_options else "")

    def lines(self, place: str, text: str, notes: Mapping[str, Any], revision: str | None) -> str:
        """Return such lines of a model that writes a text about a text."""
        prefix = notes.get("carried", {}).get("prefix")
        asked = f"{prefix!r} + {text}" if prefix else text
        at = "" if revision is None else f", revision={revision}"
        cut = "" if notes.get("max_length") is None else f", truncation=True, max_length={notes['max_length']}"
        return (
            f"from transformers import {self.auto_model}, {self.auto_processor}\n\n"
            f"tokenizer = {self.auto_processor}.from_pretrained({place}{at})\n"
            f"model = {self.auto_model}.from_pretrained({place}{at})\n"
            f'inputs = tokenizer({asked}{cut}, return_tensors="pt")\n'
            "answer = tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True)"
        )

    def with_hypothesis(self, rows: Any, hypothesis: str, premise: str) -> Any | None:
        """Return rows that ask whether the input entails a sentence; None where they have no place for it.

        An input of two texts is put into the two `{}` of `premise`.
        """
        return None


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _called(role: Role, roles: Mapping[str, Role]) -> str:
    """Return what to give, in words."""
    assert role.takes is not None
    required = [name for name, one in roles.items() if one.required]
    if len(required) > 1:
        return f"a value for each of {', '.join(required)}"
    text = "a string" if role.takes.needs == "string" else f"a string or a {role.takes.needs}"
    one = {"picture": "a path or a PIL image"}.get(role.takes.widget, text)
    return one if len(roles) == 1 else f"{one}, or a value for each of {', '.join(roles)}"
