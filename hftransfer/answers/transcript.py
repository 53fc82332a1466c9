"""transcript: what was said, written by a decoder (Whisper) or read off place by place (CTC)."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from hftransfer import processors
from hftransfer.answers import _ctc, _spoken
from hftransfer.answers._decoder import decoder_places
from hftransfer.answers._prose import Generated, Prose, shown
from hftransfer.answers._spoken import Normalizer, Spoken
from hftransfer.answers._texts import Texts
from hftransfer.answers._written import joined
from hftransfer.answers.base import Answer, Loss, Rows, Trivial
from hftransfer.errors import UserError, hint
from hftransfer.weighting import Metric

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig, EvaluationConfig

PREFIX = 4  # tokens that stand before a Whisper's text: start, language, task, no times
MOST_CHARACTERS = 10_000  # of a vocabulary that is made of transcripts
ENGLISH = ("en", "english")


@dataclass(frozen=True)
class Transcript(Prose):
    """Truth is a list of texts, outputs are a list of Generated.

    A decoder's are as those of any text. Place by place, `nll` is that of all ways to read the true text off, and
    `tokens` are its characters.
    """

    metric_names: tuple[str, ...] = ("wer", "cer", "wer_normalized", "cer_normalized", "exact_match", "perplexity")
    way: Literal["decoder", "places"] = "decoder"
    language: str | None = None  # that is spoken
    translated_to: str | None = None  # English, of a model that can
    normalizer: Normalizer = "basic"
    empty: bool = True  # whether nothing is nearer to train's transcripts than the most common one
    characters: tuple[str, ...] = ()  # of train
    blank: int = 0  # the token that stands for none
    strides: tuple[tuple[int, int], ...] = ()  # of the layers that make places of samples
    rate: int = 16_000  # samples a second
    made: bool = False  # whether the vocabulary is made of train's characters, and not the model's
    besides: int = 0  # characters that the model's vocabulary got besides
    small: bool = False  # whether letters are made small to be learned and scored: the vocabulary knows one case

    kind = "transcript"
    heeds = frozenset({"long_targets", "max_new_tokens", "max_target_length", "num_beams"})
    typed = str
    refuses_long = True  # so much is not said in the seconds that a model hears at once
    METRICS: ClassVar[Mapping[str, Metric]] = _spoken.METRICS

    @property
    def generates(self) -> bool:  # type: ignore[override]
        return self.way == "decoder"

    @property
    def cuts_targets(self) -> bool:  # type: ignore[override]
        return self.way == "decoder"

    # --- truth ---

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[Answer[Any], list[str]]:
        spoken, wanted = config.source_language, config.target_language
        other = wanted if wanted is not None and wanted != spoken else None
        english = (other or spoken or "").lower() in ENGLISH
        return dataclasses.replace(
            self, language=spoken or wanted, translated_to=other if spoken else None,
            normalizer="english" if english else "basic",
        ), []  # fmt: skip

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        """Compose letters with their accents: how a text is encoded is not heard."""
        import pyarrow.compute as pc

        return pc.utf8_normalize(super().canonical(raw, feature, config), form="NFC")

    def learner(self, column: str, features: Mapping[str, Any]) -> Transcripts:
        return Transcripts(self)

    # --- model ---

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[Self, Any, list[str]]:
        """Take the way of the model, and fit what reads for it: a vocabulary, or the marks of language and task."""
        rate = int(processors.ear_of(processor).sampling_rate)
        if _ctc.is_ctc(settings):
            return self._by_places(processor, settings, rate, trains)
        if settings.model_type != "whisper":
            raise UserError(
                "a Whisper is needed, or a model that answers place by place (CTC)",
                f"this one is {settings.model_type}, another decoder, of which nobody here knows how it is asked",
                "Use one such as openai/whisper-tiny or facebook/wav2vec2-base.",
            )
        tokenizer = processors.require_tokenizer(processor)
        if generation is None:
            return self._marked(tokenizer, rate), processor, []
        languages = [mark.strip("<|>") for mark in generation.to_dict().get("lang_to_id") or {}]
        if not generation.to_dict().get("is_multilingual", bool(languages)):
            if (self.language or "en").lower() not in ENGLISH or self.translated_to:
                raise UserError(
                    "a model that knows other languages than English is needed",
                    f"data.source_language is {self.language!r}, and this one writes English alone",
                    "Use one without .en in its name, such as openai/whisper-tiny.",
                )  # fmt: skip
            alone = dataclasses.replace(self, language=None, normalizer="english")
            return alone._marked(tokenizer, rate), processor, []
        language = _known_language(self.language, languages)
        if self.translated_to is not None and _known_language(self.translated_to, languages, "target") != "en":
            raise UserError(
                "data.target_language must be that of the recordings, or en, which the model translates to",
                f"it is {self.translated_to!r}", "Drop it.",
            )  # fmt: skip
        task = "transcribe" if self.translated_to is None else "translate"
        tokenizer.set_prefix_tokens(language=language, task=task, predict_timestamps=False)
        return dataclasses.replace(self, language=language)._marked(tokenizer, rate), processor, []

    def _marked(self, tokenizer: Any, rate: int) -> Self:
        """Return the answer with the tokens that stand before every text: they are given, whatever is heard."""
        return dataclasses.replace(self, rate=rate, marks=tuple(tokenizer.prefix_tokens[1:]))

    def _by_places(self, processor: Any, settings: Any, rate: int, trains: bool) -> tuple[Self, Any, list[str]]:
        tokenizer, said, made, small = processors.tokenizer_of(processor), [], False, False
        characters = lacking = list(self.characters)
        if tokenizer is not None:
            if _ctc.in_capitals(tokenizer, self.characters):
                _ctc.make_small(tokenizer)
                said.append("the model writes capitals: they are made small, as train's transcripts are")
            lacking = _ctc.unknown(tokenizer, self.characters, settings.vocab_size)
            if lacking and not (trains and _ctc.are_few(tokenizer, lacking, characters)):
                characters, lacking = _ctc.in_one_case(tokenizer, characters, lacking, settings.vocab_size, trains)
                small = characters != list(self.characters)
            if small:
                said.append("the model knows letters of one case alone: transcripts are made small, and scored so")
        few = bool(lacking) and _ctc.are_few(tokenizer, lacking, characters)
        if lacking and tokenizer is not None and not trains:
            said.append(f"the model knows no {', '.join(lacking[:10])}, which train's transcripts have")
        elif few:
            tokenizer = _ctc.widened(tokenizer, lacking, settings.vocab_size)
            processor = processors.joined(settings, processors.ear_of(processor), tokenizer)
            said.append(
                f"the model's vocabulary with {', '.join(lacking[:10])} besides, which train's transcripts have"
            )
        elif tokenizer is None or lacking:
            if len(self.characters) > MOST_CHARACTERS:
                raise UserError(
                    f"transcripts of at most {MOST_CHARACTERS:,} characters are needed",
                    f"those of train have {len(self.characters):,}", "Check data.columns.",
                )  # fmt: skip
            some = f": that of the model lacks {', '.join(lacking[:10])}" if tokenizer is not None else ""
            tokenizer = _ctc.tokenizer_of(self.characters)
            processor = processors.joined(settings, processors.ear_of(processor), tokenizer)
            made = True
            said.append(f"a new vocabulary of the {len(self.characters)} characters of train's transcripts{some}")
        way = dataclasses.replace(
            self, way="places", blank=int(tokenizer.pad_token_id), strides=_ctc.strides(settings), rate=rate,
            made=made, besides=len(lacking) if few and trains else 0, small=small,
        )  # fmt: skip
        return way, processor, said

    @property
    def renewed(self) -> bool:
        return self.made

    @property
    def widened(self) -> int:
        return self.besides

    def of_config(self, settings: Any) -> Transcript:
        if not _ctc.is_ctc(settings):
            return self
        return dataclasses.replace(
            self, way="places", blank=int(settings.pad_token_id or 0), strides=_ctc.strides(settings)
        )

    def scores_given(self, processor: Any) -> int | None:
        return len(processors.require_tokenizer(processor)) if self.made else None

    def configure(self, settings: Any) -> None:
        if self.way == "decoder":
            return super().configure(settings)
        settings.pad_token_id = self.blank
        settings.ctc_zero_infinity = True
        return None

    def limited(self, evaluation: EvaluationConfig, lengths: np.ndarray | None, settings: Any) -> Transcript:
        if self.way == "places":
            return self
        found = super().limited(evaluation, lengths, settings)
        assert isinstance(found, Transcript)
        places = decoder_places(settings)
        if found.max_new_tokens is None or places is None:
            return found
        return dataclasses.replace(found, max_new_tokens=min(found.max_new_tokens, places - PREFIX))

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Return token numbers as `labels`, and for a decoder as `targets`, which it sees one late."""
        if truth is None:
            return {}
        if self.way == "places":
            tokenizer = processors.require_tokenizer(processor)
            ids = [tokenizer(" ".join(text.split()))["input_ids"] for text in self._cased(truth)]
            found = {"labels": ids, "_target_length": [len(row) for row in ids]}
            if "_seconds" in encoded:
                room = [_ctc.places(int(seconds * self.rate), self.strides) for seconds in encoded["_seconds"]]
                found["_cut_target"] = [_ctc.needed(row) > most for row, most in zip(ids, room, strict=True)]
            return found
        found = super().targets(truth, encoded, processor, preparation)
        start = processors.require_tokenizer(processor).convert_tokens_to_ids("<|startoftranscript|>")
        ids = [row[1:] if row[:1] == [start] else row for row in found["labels"]]  # `shifted` puts it there
        return {**found, "labels": ids, "targets": ids, "_target_length": [len(row) for row in ids]}

    def attach(self, model: Any) -> Any:
        if self.way == "decoder":
            return super().attach(model)
        model.register_forward_hook(
            lambda module, _, named, outputs: _ctc.read_alone(module, named, outputs), with_kwargs=True
        )
        return model

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        return super().loss(class_weights, smoothing) if self.way == "decoder" else _ctc.loss(self.blank)

    def reduce(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        if self.way == "decoder":
            return super().reduce(logits, labels)
        return _ctc.sums_of(logits[0] if isinstance(logits, tuple) else logits, labels, self.blank)

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Generated]:
        if self.way == "decoder":
            return super().ask(model, batch, processor)
        tokenizer = processors.require_tokenizer(processor)
        logits = _ctc.read_alone(model, batch, model(**shown(batch)))["logits"]
        texts = [str(tokenizer.decode(row)).strip() for row in logits.argmax(-1).cpu()]
        return [one._replace(text=text) for one, text in zip(self._likely(logits, batch), texts, strict=True)]

    def judge(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Generated]:
        if self.way == "decoder":
            return super().judge(model, batch, processor)
        return self._likely(_ctc.read_alone(model, batch, model(**shown(batch)))["logits"], batch)

    def _likely(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> list[Generated]:
        labels = batch.get("labels")
        if labels is None:
            return [Generated("")] * len(logits)
        sums = _ctc.sums_of(logits, labels, self.blank).cpu().numpy()
        return [Generated("", float(nll), int(count)) for nll, count, _ in sums]

    def join(self, parts: Sequence[Generated]) -> Generated:
        """Return a long recording's transcript; what the parts make of the whole truth says nothing."""
        if len(parts) == 1:
            return parts[0]
        return Generated(joined([part.text for part in parts]))

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        nll, tokens, right = np.asarray(kept, np.float64).sum(axis=0)
        each = nll / tokens if tokens else _ctc.MOST_NLL  # no text fits its recording
        return {
            "perplexity": float(np.exp(min(each, _ctc.MOST_NLL))), "token_accuracy": float(right / max(tokens, 1.0)),
        }  # fmt: skip

    def generation(self, model: Any, tokenizer: Any) -> Any:
        found = super().generation(model, tokenizer)
        if model.config.model_type == "whisper":
            found.return_timestamps, found.forced_decoder_ids = False, None
            if self.language is not None:
                found.language = self.language
                found.task = "transcribe" if self.translated_to is None else "translate"
        found.num_beams = found.num_beams or 1  # else pipeline() takes 5
        return found

    def finish(self, model: Any, processor: Any) -> None:
        if self.way == "decoder":
            super().finish(model, processor)

    # --- scored ---

    @property
    def main_metric(self) -> str:
        return "cer" if self.tokenize == "char" else self.metric_names[0]

    def outcomes(self, truth: Rows, outputs: Rows) -> Spoken:
        likelihood = np.array([(row.nll, row.tokens) for row in outputs], np.float64).reshape(-1, 2)
        texts = self._cased([unicodedata.normalize("NFC", row.text) for row in outputs])
        return Spoken(self._cased(truth), texts, likelihood, self.tokenize, self.normalizer)

    def _cased(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self.small else list(texts)

    def measured_as(self, other: Any) -> Self:
        """Return the answer that normalises as another: of two ways to count, differences would say nothing."""
        return dataclasses.replace(self, normalizer=other.normalizer, tokenize=other.tokenize, small=other.small)

    def signatures(self) -> dict[str, str]:
        said = _spoken.CALLED[self.normalizer]
        return {**super().signatures(), "wer_normalized": said, "cer_normalized": said}

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        if self.empty:
            return Trivial("empty transcript", "writes nothing", [Generated("")] * len(truth))
        return super().baseline(truth, None)

    # --- shown ---

    def limits(self) -> list[str]:
        found = super().limits() if self.way == "decoder" else []
        said = f"`wer_normalized` and `cer_normalized` are measured after {_spoken.CALLED[self.normalizer]}."
        found += (
            ["It writes small letters alone, and errors are counted without regard to case."] if self.small else []
        )
        return [*found, "It writes something for noise and silence too.", said]

    # --- the artifact ---

    def restore(self, noted: Mapping[str, Any]) -> Transcript:
        pairs = tuple((int(width), int(step)) for width, step in noted.get("strides", ()))
        found = super().restore({**noted, "characters": tuple(noted.get("characters", ())), "strides": pairs})
        assert isinstance(found, Transcript)
        return found


class Transcripts(Texts):
    """Finds the characters of transcripts besides, and whether nothing is nearer to them than the most common one."""

    def __init__(self, answer: Transcript) -> None:
        super().__init__(answer)
        self.characters: set[str] = set()
        self.marked = np.zeros(2, np.int64)  # letters, and marks

    def add(self, truth: pa.Array) -> None:
        super().add(truth)
        found = [text for text in truth.to_pylist() if text is not None]
        self.characters.update(*found)
        self.marked += np.array([_spoken.marked(text) for text in found], np.int64).reshape(-1, 2).sum(axis=0)

    def learn(self) -> Transcript:
        found = super().learn()
        assert isinstance(found, Transcript)
        texts, times = list(self.texts), np.array(list(self.texts.values()), np.float64)
        pairs = [(found.most_common.split(), text.split()) for text in texts]
        wrong, whole = times @ _spoken.edits(pairs)
        whole -= len(found.most_common.split())  # the row that it is of says nothing of others
        characters = tuple(sorted(one for one in self.characters if not one.isspace()))
        marks = found.normalizer == "basic" and self.marked[1] > _spoken.MARKS * self.marked[0]
        return dataclasses.replace(
            found, empty=bool(wrong >= whole), characters=characters, normalizer="marks" if marks else found.normalizer
        )


def _known_language(asked: str | None, codes: Sequence[str], whose: str = "source") -> str:
    """Return the code of a language; UserError for none and for one that the model does not know."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    some = ", ".join(sorted(codes)[:6])
    if asked is None:
        raise UserError(
            "the language that is spoken must be known, because the model marks texts with it",
            "data.source_language is not set", f"Set it to one of its {len(codes)} codes, such as {some}.",
        )  # fmt: skip
    code = TO_LANGUAGE_CODE.get(asked.lower(), asked.lower())
    if code not in codes:
        raise UserError(
            f"data.{whose}_language must be a language of the model",
            f"found {asked!r}",
            hint(asked, codes) or "Check it.",
        )
    return code


ANSWER = Transcript()
