"""The processor and the model: loaded safely, checked to be of the task's kind, with a head where one is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from torch import nn

from hftransfer import samples
from hftransfer.answers._decoder import decoder_places
from hftransfer.answers.base import Answer
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.modeling import short_clips
from hftransfer.modeling.parts import backbone_prefix, head_modules
from hftransfer.modeling.problems import (
    explained,
    no_tokenizer,
    refuse_pickle,
    require_folder,
    require_intact,
    require_type,
)
from hftransfer.processors import FROM_PADDING, speaks_languages, tokenizer_of
from hftransfer.processors import set_languages as tell_languages
from hftransfer.tasks.base import Task

DUAL_ENCODER = "vision-text-dual-encoder"
LONGEST = 512  # what a text is cut at when neither the config nor the model sets less


@dataclass(frozen=True)
class Loaded:
    """A model as it came from its folder or repo."""

    model: Any
    source: str
    revision: str | None  # the commit, for a Hub model
    fresh: tuple[str, ...] = ()  # modules whose weights were made at random just now
    notices: tuple[str, ...] = field(default=())


def silence_libraries() -> None:
    """Turn off the libraries' own progress bars and notes: a run shows its events, a Predictor its answers."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if "datasets" in sys.modules:  # which a Predictor hardly needs
        sys.modules["datasets"].disable_progress_bars()


def load_processor(config: RunConfig, task: Task) -> Any:
    """Load the tokenizer or image processor; a tokenizer without a padding token gets its end token for it."""
    source = samples.resolve(config.model)
    with explained(config, task, source):
        require_folder(source)
        # asked first, because it says what is wrong with a model that wants to run its own code
        settings = transformers.AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        task.auto_class(settings)  # which may refuse a model whose processor cannot even be loaded
        processor = _reader(config, task, source, settings)
    require_intact(source, config.revision)
    tokenizer = tokenizer_of(processor)
    if tokenizer is None:
        return processor
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # where there are no files, transformers makes a tokenizer to which every word is unknown
        raise no_tokenizer(config.model, task, f"the tokenizer of {config.model} knows no words")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(
                "a tokenizer with a padding or end token is needed",
                f"{config.model} has neither",
                "Use another model.",
            )
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def _reader(config: RunConfig, task: Task, source: str, settings: Any) -> Any:
    """Return what reads for a model; of one that may come without a tokenizer what hears alone, where it has none."""
    options = {"revision": config.revision, "trust_remote_code": False}
    name, own = task.reader(settings)
    auto = getattr(transformers, name)
    if not task.makes_tokenizer:
        return auto.from_pretrained(source, **options, **own)
    ear = transformers.AutoFeatureExtractor.from_pretrained(source, **options)
    try:
        processor = auto.from_pretrained(source, **options)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # what a missing vocabulary raises
        return ear
    tokenizer = tokenizer_of(processor)
    words = tokenizer is not None and len(tokenizer) > len(tokenizer.all_special_tokens)
    return processor if words else ear


def fitted(
    config: RunConfig, answer: Answer[Any], processor: Any, trains: bool = True
) -> tuple[Answer[Any], Any, list[str]]:
    """Return an answer and what reads for the model of a configuration, fitted to one another, and what to say."""
    source = samples.resolve(config.model)
    options: dict[str, Any] = {"revision": config.revision, "trust_remote_code": False}
    settings = transformers.AutoConfig.from_pretrained(source, **options)
    try:
        generation = transformers.GenerationConfig.from_pretrained(source, **options)
    except OSError:
        generation = None
    return answer.reads(processor, settings, generation, trains)


def load_model(
    config: RunConfig, task: Task, answer: Answer[Any], processor: Any, attention: str | None = None, **options: Any
) -> Loaded:
    """Load float32 weights that can give an answer, with a head for it where it needs one.

    UserError when they are not there, or not for this task.
    """
    source = samples.resolve(config.model)
    with explained(config, task, source):
        require_folder(source)
        refuse_pickle(source, config.allow_pickle)
        whole = transformers.AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        settings = part_for(config, task, whole)
        require_type(config, task, settings)
        known = label_names(settings)
        answer.configure(settings)
        size = answer.scores_given(processor)
        if size is not None:
            settings.vocab_size = size
        set_padding(settings, processor)
        if "quantization_config" in options:
            options["quantization_config"].llm_int8_skip_modules = _heads_of(task, settings) or None
        model, info = _pretrained(
            config, task, source, settings, settings is not whole,
            attn_implementation=attention, ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    fresh = _fresh_modules(model, info)
    if answer.renewed:
        fresh = tuple(dict.fromkeys([*fresh, *_renewed(model)]))
    if answer.widened:
        fresh = tuple(dict.fromkeys([*fresh, *_widened(model, answer.widened)]))
    _require_backbone(config, task, model, info)
    model = answer.attach(model)
    if answer.generates and config.speed.short_clips:
        model = short_clips.shortened(model)
    fresh = tuple(name for name in fresh if name in dict(model.named_modules()))  # of what is still there
    return Loaded(model, source, _commit(source, config.revision), fresh, tuple(_notices(fresh, known, answer)))


def load_own(config: RunConfig, task: Task, processor: Any) -> Any | None:
    """Load a checkpoint with the head and the labels that it came with; None when it has no trained head."""
    source = samples.resolve(config.model)
    with explained(config, task, source):
        settings = transformers.AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        part = part_for(config, task, settings)
        model, info = _pretrained(config, task, source, part, part is not settings)
    set_padding(model.config, processor)
    return None if info["missing_keys"] else model


def load_saved(folder: str | Path, task: Task) -> Any:
    """Load a model of a task from a folder, in float32, as a stranger does."""
    settings = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return task.auto_class(settings).from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )


def part_for(config: RunConfig, task: Task, settings: Any) -> Any:
    """Return the settings that a model of the task is loaded with.

    They are those given, but of a dual encoder of pictures and texts, which no classifier is made of, those of its
    picture part. UserError where that has no classifier either.
    """
    if settings.model_type != DUAL_ENCODER or task.auto_model != "AutoModelForImageClassification":
        return settings
    part = settings.vision_config
    kind = part.model_type.removesuffix("_vision_model")
    if kind != part.model_type:  # a CLIP's own: its classifier wants the settings of both parts, and reads one
        part = transformers.AutoConfig.for_model(kind, vision_config=part.to_dict())
    if type(part) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise UserError(
            f"{task.name} needs a model, or the picture part of one, that {task.auto_model} can load",
            f"the picture part of {config.model} is of type {settings.vision_config.model_type!r}",
            f"Choose a model for {task.name}.",
        )
    return part


def _pretrained(
    config: RunConfig, task: Task, source: str, settings: Any, of_part: bool, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Return a model and transformers' report on its weights; of a dual encoder its picture part with a head."""
    usual: dict[str, Any] = {
        "revision": config.revision,
        "dtype": torch.float32,
        "use_safetensors": None if config.allow_pickle else True,
        "trust_remote_code": False,
    }
    auto = task.auto_class(settings)
    report: dict[str, Any] = {"config": settings, "output_loading_info": True, **options}
    if not of_part:
        found: tuple[Any, dict[str, Any]] = auto.from_pretrained(source, **{**usual, **report})
        require_intact(source, config.revision)
        return found
    with torch.device("meta"):
        empty = auto.from_config(settings)
    pictures = transformers.AutoModel.from_pretrained(source, **usual).vision_model
    require_intact(source, config.revision)
    # not by `key_mapping`: a model that was loaded with one is saved under the old names again
    weights = {backbone_prefix(empty) + name: value for name, value in pictures.state_dict().items()}
    model, info = type(empty).from_pretrained(None, state_dict=weights, **report)
    return model, info


def set_padding(settings: Any, processor: Any) -> None:
    """Tell a model's config which token pads: without one, decoders cannot read a batch."""
    tokenizer = tokenizer_of(processor)
    if tokenizer is not None and settings.to_dict().get("pad_token_id") is None:
        settings.pad_token_id = tokenizer.pad_token_id


def longest_input(config: RunConfig, processor: Any, model_config: Any = None) -> int | None:
    """Return at how many tokens a text is cut: the config's, and never more than the model can read."""
    tokenizer = tokenizer_of(processor)
    if tokenizer is None:
        return None
    limit, asked = most_tokens(tokenizer, model_config), config.data.max_length
    if asked is not None and limit is not None and asked > limit:
        raise UserError(
            f"data.max_length must be at most {limit} for {config.model}", f"it is {asked}",
            f"Set data.max_length={limit} or less.",
        )  # fmt: skip
    return asked or min(limit or LONGEST, LONGEST)


def most_tokens(tokenizer: Any, model_config: Any) -> int | None:
    """Return how many tokens a model can read; None where neither it nor its tokenizer says."""
    limits = [n for n in (tokenizer.model_max_length, positions(model_config)) if n and n < 1_000_000]
    return min(limits, default=None)


def longest_target(config: RunConfig, settings: Any, longest: int | None, answer: Answer[Any]) -> int | None:
    """Return at how many tokens a target is cut: the config's, and never more than the decoder has places for.

    A target that is part of the input may be as long as that (`longest`); None of an answer that is not written.
    """
    if not answer.generates:
        return None
    if answer.aligned:
        return config.data.max_target_length or longest
    places, asked = decoder_places(settings), config.data.max_target_length
    if asked is not None and places is not None and asked > places:
        raise UserError(
            f"data.max_target_length must be at most {places} for {config.model}", f"it is {asked}",
            f"Set data.max_target_length={places} or less.",
        )  # fmt: skip
    return asked or min(places or LONGEST, LONGEST)


def set_languages(config: RunConfig, processor: Any) -> None:
    """Tell a tokenizer that marks texts with their language which these are; UserError where they are not known."""
    tokenizer = tokenizer_of(processor)
    if tokenizer is not None and speaks_languages(tokenizer):
        tell_languages(tokenizer, config.data.source_language, config.data.target_language, config.model)


def _heads_of(task: Task, settings: Any) -> list[str]:
    """Return the head's modules before any weight is read: a head that does not exist yet cannot be quantized."""
    with torch.device("meta"):
        return head_modules(task.auto_class(settings).from_config(settings))


def _commit(source: str, revision: str | None) -> str | None:
    """Return the commit that the cache holds for a Hub model, None for a folder."""
    if Path(source).is_dir():
        return None
    cached = huggingface_hub.try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def label_names(settings: Any) -> list[str]:
    """Return the labels of a model's config, in the order of its outputs."""
    return [str(settings.id2label[i]) for i in sorted(settings.id2label)] if settings.id2label else []


def _renewed(model: Any) -> list[str]:
    """Make the layers anew that give a score to each token, and return their names: others wrote other tokens."""
    heads = head_modules(model)
    for module in [module for name in heads for module in model.get_submodule(name).modules()]:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=model.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return heads


def _widened(model: Any, count: int) -> list[str]:
    """Let the layers that give a score to each token do so to `count` more, and return their names."""
    heads = head_modules(model)
    for name in [name for name in heads if isinstance(model.get_submodule(name), nn.Linear)]:
        old = model.get_submodule(name)
        layer = nn.Linear(old.in_features, old.out_features + count, bias=old.bias is not None)
        nn.init.normal_(layer.weight, std=model.config.initializer_range)
        with torch.no_grad():
            layer.weight[: old.out_features] = old.weight
            if old.bias is not None:
                layer.bias.zero_()[: old.out_features] = old.bias
        model.set_submodule(name, layer)
        model.config.vocab_size = layer.out_features
    return heads


def _fresh_modules(model: nn.Module, info: dict[str, Any]) -> tuple[str, ...]:
    """Return the smallest modules that hold every weight the checkpoint did not have: the head, sometimes a pooler."""
    missing = {*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])}
    heads = head_modules(model)
    inside = {key.rpartition(".")[0] for key in missing if key.split(".")[0] not in heads}
    touched = {key.split(".")[0] for key in missing} & set(heads)
    return (*(head for head in heads if head in touched), *sorted(inside))


def _require_backbone(config: RunConfig, task: Task, model: nn.Module, info: dict[str, Any]) -> None:
    prefix = backbone_prefix(model)
    sizes = {name: p.numel() for name, p in model.named_parameters() if name.startswith(prefix)}
    missing = {*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])}
    lost = sum(size for name, size in sizes.items() if name in missing)
    if sizes and lost > 0.5 * sum(sizes.values()):
        raise UserError(
            f"{task.name} needs pretrained weights for {type(model).__name__}",
            f"{config.model} lacks {lost / sum(sizes.values()):.0%} of them (it holds another kind of model)",
            f"Choose a model for {task.name}.",
        )


def _notices(fresh: tuple[str, ...], known: list[str], answer: Answer[Any]) -> Iterator[str]:
    if fresh:
        yield f"new weights, trained from random: {', '.join(fresh)}"
    elif answer.names and [n.lower() for n in known] != [n.lower() for n in answer.names]:
        yield f"the model's own head ({', '.join(known[:5])}) is the starting point for {', '.join(answer.names[:5])}"


def positions(model_config: Any) -> int | None:
    """Return how many tokens a model of texts has places for; None where it says none."""
    name = "max_position_embeddings"
    if model_config is None or model_config.attribute_map.get(name, name) not in model_config.to_dict():
        return None
    positions = int(model_config.max_position_embeddings)
    return positions - 2 if model_config.model_type in FROM_PADDING else positions
