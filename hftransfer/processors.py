"""What reads for a model: the tokenizer and the ear among its parts, what they cut, and the languages it writes in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hftransfer.config import DataConfig
from hftransfer.errors import UserError, hint

SECONDS = 30.0  # of a recording that a model is shown at once where it has no limit of its own
LANGUAGE = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")  # fr_XX, fra_Latn


def tokenizer_of(processor: Any) -> Any | None:
    """Return the tokenizer among what reads for a model; None where nothing reads text."""
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    found = vars(processor).get("tokenizer") if isinstance(processor, ProcessorMixin) else processor
    return found if isinstance(found, PreTrainedTokenizerBase) else None


# whose positions are numbered from behind the padding index
FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")


def places_of(settings: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model of texts has places for, by its config as a dict; None where it says none."""
    found = settings.get("max_position_embeddings")
    return None if not found else int(found) - (2 if settings.get("model_type") in FROM_PADDING else 0)


def require_tokenizer(processor: Any) -> Any:
    """Return the tokenizer among what reads for a model; UserError where nothing reads text."""
    found = tokenizer_of(processor)
    if found is None:
        raise UserError(
            "a model that writes text needs a tokenizer", f"found a {type(processor).__name__} alone",
            "Use a model that has one.",
        )  # fmt: skip
    return found


def truncated(encoded: Any, max_length: int | None) -> Sequence[bool]:
    """Return which of a tokenizer's items lost their end."""
    if encoded.encodings is not None:
        return [bool(encoding.overflowing) for encoding in encoded.encodings]
    return [len(ids) == max_length for ids in encoded["input_ids"]]  # a slow tokenizer keeps no overflow


def speaks_languages(tokenizer: Any) -> bool:
    """Tell whether a tokenizer marks texts with the language that they are in."""
    return "src_lang" in tokenizer.init_kwargs


def set_languages(tokenizer: Any, source: str | None, target: str | None, model: str) -> None:
    """Tell a tokenizer which languages it reads and writes; UserError for one that it does not know, or for none."""
    for setting, code in (("data.source_language", source), ("data.target_language", target)):
        known = list(languages(tokenizer))
        if code is None:
            some = ", ".join(known[:6])
            raise UserError(
                f"{model} marks texts with their language, so both must be known",
                f"{setting} is not set", f"Set it to one of its {len(known)} codes, such as {some}.",
            )  # fmt: skip
        if code not in known:
            raise UserError(
                f"{setting} must be a language code of {model}", f"found {code!r}", hint(code, known) or "Check it."
            )
    tokenizer.src_lang, tokenizer.tgt_lang = source, target
    tokenizer.init_kwargs |= {"src_lang": source, "tgt_lang": target}  # what is saved


def languages(tokenizer: Any) -> dict[str, int]:
    """Return the codes of the languages that a tokenizer has marks for, each with the number of its token."""
    from transformers import M2M100Tokenizer

    if isinstance(tokenizer, M2M100Tokenizer):  # it keeps them beside its vocabulary
        return {code: int(tokenizer.get_lang_id(code)) for code in tokenizer.lang_code_to_token}
    found = {token: number for token, number in tokenizer.get_vocab().items() if LANGUAGE.fullmatch(token)}
    return dict(sorted(found.items(), key=lambda entry: entry[1]))


def language_token(tokenizer: Any) -> int | None:
    """Return the number of the token of the language that is written; None where texts are not marked."""
    return languages(tokenizer).get(tokenizer.tgt_lang) if speaks_languages(tokenizer) else None


def own_prefix(config: DataConfig, settings: Any, name: str) -> DataConfig:
    """Return the data section with the prefix that a model's config has for a task, unless the user gave one."""
    if config.prefix is not None:
        return config
    known = (settings.to_dict().get("task_specific_params") or {}).get(name) or {}
    return config.model_copy(update={"prefix": known.get("prefix")}) if known.get("prefix") else config


# --- what sees for a model ---


def side_of(processor: Any) -> int | None:
    """Return the side, in pixels, at which a model is shown pictures, the longer of two.

    None where it varies: with the picture's shape, or with its size, which nothing changes.
    """
    from transformers import ProcessorMixin

    eye = vars(processor).get("image_processor") if isinstance(processor, ProcessorMixin) else processor
    if not getattr(eye, "do_resize", True):
        return None
    sides = [_longest(getattr(eye, name, None)) for name in ("size", "crop_size")]
    return max((side for side in sides if side is not None), default=None)


def _longest(size: Any) -> int | None:
    if hasattr(size, "get"):  # a dict, or what transformers keeps in its place
        if size.get("longest_edge"):  # beside the shortest, it bounds what the picture's own shape makes of it
            return None
        found = [size.get(name) for name in ("height", "width", "shortest_edge")]
    else:
        found = [size]
    numbers = [int(side) for side in found if isinstance(side, int) and side]
    return max(numbers, default=None)


# --- what hears for a model ---


def ear_of(processor: Any) -> Any:
    """Return the part of what reads for a model that hears."""
    from transformers import ProcessorMixin

    return vars(processor)["feature_extractor"] if isinstance(processor, ProcessorMixin) else processor


def joined(settings: Any, ear: Any, tokenizer: Any) -> Any:
    """Return what reads for a model of these settings, made of an ear and a tokenizer."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    kind = PROCESSOR_MAPPING_NAMES.get(settings.model_type, "Wav2Vec2Processor")
    return getattr(transformers, kind)(feature_extractor=ear, tokenizer=tokenizer)


def hear(processor: Any, waveforms: Sequence[Any]) -> dict[str, list[Any]]:
    """Return what a model is shown of waveforms (n,) of its own rate: a tensor each by name, none padded to others."""
    ear = ear_of(processor)
    heard = [ear(waveform, sampling_rate=ear.sampling_rate, return_tensors="pt") for waveform in waveforms]
    found = {name: [one[name][0] for one in heard] for name in heard[0]}
    if "attention_mask" in found and "input_features" in found:
        # two frames make a place; of an odd last one pipeline() reads the place off, though the mask leaves it out
        found["_places"] = [len(features) for features in found["input_features"]]
    return found


def window_of(processor: Any, asked: float | None) -> float:
    """Return how many seconds a model is shown at once; UserError where more are asked than it takes."""
    known = ear_of(processor).to_dict()
    own = float(known["chunk_length"]) if "chunk_length" in known else None
    if "num_mel_bins" in known and "max_length" in known:  # 25 ms every 10 ms
        own = 0.015 + 0.01 * known["max_length"]
    if asked is not None and own is not None and asked > own:
        raise UserError(
            f"data.max_seconds must be at most {own:g} for this model", f"it is {asked:g}",
            f"Set data.max_seconds={own:g} or less.",
        )  # fmt: skip
    return asked or own or SECONDS


def mixes_lengths(processor: Any) -> bool:
    """Tell whether a model answers alike for a recording by itself and for one that is filled up beside a longer one.

    Those that normalise over the time and take no mask (Wav2Vec2's and HuBERT's base models) do not.
    """
    known = ear_of(processor).to_dict()
    waveform = known.get("feature_size") == 1 and "num_mel_bins" not in known
    return not waveform or bool(known["return_attention_mask"])
