"""The processor and the model: loaded safely, checked to be of the task's kind, with a head for these labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import torch
import transformers
from huggingface_hub import errors as hub_errors
from torch import nn

from hftransfer import samples
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.tasks.base import Labels, Task

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
    datasets.disable_progress_bars()


def load_processor(config: RunConfig, task: Task) -> Any:
    """Load the tokenizer or image processor; a tokenizer without a padding token gets its end token for it."""
    source = samples.resolve(config.model)
    with explained(config, task, source):
        require_folder(source)
        # asked first, because it says what is wrong with a model that wants to run its own code
        transformers.AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        processor = getattr(transformers, task.auto_processor).from_pretrained(
            source, revision=config.revision, trust_remote_code=False, **task.processor_options
        )
    if task.auto_processor == "AutoTokenizer" and len(processor) <= len(processor.all_special_tokens):
        # where there are no files, transformers makes a tokenizer to which every word is unknown
        raise _no_tokenizer(config.model, task, f"the tokenizer of {config.model} knows no words")
    if task.auto_processor == "AutoTokenizer" and processor.pad_token is None:
        if processor.eos_token is None:
            raise UserError(
                "a tokenizer with a padding or end token is needed",
                f"{config.model} has neither",
                "Use another model.",
            )
        processor.pad_token = processor.eos_token
    return processor


def load_model(
    config: RunConfig, task: Task, labels: Labels, processor: Any, attention: str | None = None, **options: Any
) -> Loaded:
    """Load float32 weights with a head for `labels`; UserError when they are not there, or not for this task."""
    source = samples.resolve(config.model)
    with explained(config, task, source):
        require_folder(source)
        _refuse_pickle(source, config.allow_pickle)
        whole = transformers.AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        settings = part_for(config, task, whole)
        known = label_names(settings)
        set_labels(settings, labels)
        set_padding(settings, task, processor)
        if "quantization_config" in options:
            options["quantization_config"].llm_int8_skip_modules = _heads_of(task, settings)
        model, info = _pretrained(
            config, task, source, settings, settings is not whole,
            attn_implementation=attention, ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    fresh = _fresh_modules(model, info)
    _require_backbone(config, task, model, info)
    return Loaded(model, source, _commit(source, config.revision), fresh, tuple(_notices(model, fresh, known, labels)))


def load_own(config: RunConfig, task: Task, processor: Any) -> Any | None:
    """Load a checkpoint with the head and the labels that it came with; None when it has no trained head."""
    source = samples.resolve(config.model)
    with explained(config, task, source):
        settings = transformers.AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        part = part_for(config, task, settings)
        model, info = _pretrained(config, task, source, part, part is not settings)
    set_padding(model.config, task, processor)
    return None if info["missing_keys"] else model


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
    auto = getattr(transformers, task.auto_model)
    report: dict[str, Any] = {"config": settings, "output_loading_info": True, **options}
    if not of_part:
        found: tuple[Any, dict[str, Any]] = auto.from_pretrained(source, **{**usual, **report})
        return found
    with torch.device("meta"):
        empty = auto.from_config(settings)
    pictures = transformers.AutoModel.from_pretrained(source, **usual).vision_model
    # not by `key_mapping`: a model that was loaded with one is saved under the old names again
    weights = {backbone_prefix(empty) + name: value for name, value in pictures.state_dict().items()}
    model, info = type(empty).from_pretrained(None, state_dict=weights, **report)
    return model, info


def set_padding(settings: Any, task: Task, processor: Any) -> None:
    """Tell a model's config which token pads: without one, decoders cannot read a batch."""
    if task.auto_processor == "AutoTokenizer" and settings.to_dict().get("pad_token_id") is None:
        settings.pad_token_id = processor.pad_token_id


def longest_input(config: RunConfig, task: Task, processor: Any, model_config: Any = None) -> int | None:
    """Return at how many tokens a text is cut: the config's, and never more than the model can read."""
    if task.auto_processor != "AutoTokenizer":
        return None
    limits = [n for n in (processor.model_max_length, positions(model_config)) if n and n < 1_000_000]
    asked = config.data.max_length
    if asked is not None and limits and asked > min(limits):
        raise UserError(
            f"data.max_length must be at most {min(limits)} for {config.model}",
            f"it is {asked}",
            f"Set data.max_length={min(limits)} or less.",
        )
    return asked or min([*limits, LONGEST])


def head_modules(model: nn.Module) -> list[str]:
    """Return the direct children with weights other than the backbone."""
    inside = backbone_name(model)
    return [name for name, child in model.named_children() if name != inside and any(True for _ in child.parameters())]


def backbone_name(model: nn.Module) -> str:
    """Return the child that is the pretrained part: by its usual name, or the largest, as a CLIP classifier's."""
    children = dict(model.named_children())
    if model.base_model_prefix in children:
        return str(model.base_model_prefix)
    return max(children, key=lambda name: sum(p.numel() for p in children[name].parameters()))


def backbone_prefix(model: nn.Module) -> str:
    """Return what the names of the backbone's parameters start with, dot included."""
    return f"{backbone_name(model)}."


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters train and how many there are."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


@contextmanager
def explained(config: RunConfig, task: Task, source: str) -> Iterator[None]:
    """Turn what the libraries raise about a model that the user named into a UserError."""
    name = config.model
    try:
        yield
    except (
        hub_errors.GatedRepoError,
        hub_errors.RepositoryNotFoundError,
        hub_errors.OfflineModeIsEnabled,
        hub_errors.LocalEntryNotFoundError,
    ) as error:
        raise _hub_problem(name, error) from error
    except (OSError, ValueError, ImportError, KeyError) as error:
        cause = error.__cause__
        if isinstance(cause, hub_errors.HfHubHTTPError | hub_errors.OfflineModeIsEnabled):
            raise _hub_problem(name, cause) from error
        raise _load_problem(name, task, source, config.revision, error) from error


def _load_problem(name: str, task: Task, source: str, revision: str | None, error: Exception) -> Exception:
    text = " ".join(str(error).split())
    short = text[:300]
    local = Path(source).is_dir()
    if "trust_remote_code" in text or "custom code" in text:
        return UserError(
            "a model whose code is part of transformers is needed",
            f"{name} asks to run its own code ({_remote_code(source, revision)})",
            "hftransfer never runs code from a repo: choose another model.",
        )
    if "Unrecognized configuration class" in text or "Unrecognized model" in text or "model_type" in text:
        return UserError(
            f"{task.name} needs a model that {task.auto_model} can load",
            f"{name} is {_model_type(source)}",
            f"Choose a model for {task.name}.",
        )
    if not local and ("couldn't connect" in text or "offline" in text.lower() or "connection" in text.lower()):
        return _hub_problem(name, error)
    if "safetensors" in text and ("no file" in text or "does not appear to have" in text):
        return _no_weights(name, "weights as safetensors are needed", "there are none, or only pickled ones")
    if "no file named" in text or "does not appear to have a file named" in text:
        return _no_weights(name, "a folder or repo with a whole model is needed", short)
    if local and task.auto_processor == "AutoTokenizer" and "okenizer" in text:
        return _no_tokenizer(name, task, f"{name} is {_model_type(source)}: {short}")
    if local and task.auto_processor == "AutoImageProcessor" and "rocessor" in text:
        return UserError(
            f"{task.name} needs a model with an image processor that works on PIL",
            f"{name} is {_model_type(source)}: {text.partition('. ')[0][:300]}",
            f"Choose a model for {task.name}; torchvision-only processors need torchvision installed.",
        )  # fmt: skip
    if isinstance(error, KeyError):
        return error
    return UserError("a model that transformers can load is needed", f"{name}: {short}", "Check model and revision.")


def _no_tokenizer(name: str, task: Task, found: str) -> UserError:
    return UserError(
        f"{task.name} needs a model with a tokenizer",
        found,
        f"Choose a model for {task.name}, or add the tokenizer's files to {name}.",
    )


def _hub_problem(name: str, error: Exception) -> UserError:
    if isinstance(error, hub_errors.GatedRepoError):
        return UserError(
            "access to the model is needed", f"{name} is gated and this token may not read it",
            f"Ask for access at {huggingface_hub.constants.ENDPOINT}/{name} and set HF_TOKEN.",
        )  # fmt: skip
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return UserError(
            "a model folder or Hub id is needed", f"there is no folder {name!r}, nor such a model on the Hub for you",
            "Check the spelling; for a private model set HF_TOKEN.",
        )  # fmt: skip
    return UserError(
        "a model folder, a cached model or a connection to the Hub is needed",
        f"there is no folder {name!r}, it is not in the cache, and the Hub cannot be reached",
        "Go online, or set model=a local folder; sample models need no Hub: hftransfer samples.",
    )


def _no_weights(name: str, wanted: str, found: str) -> UserError:
    return UserError(
        wanted, f"{name}: {found}", "Use a folder or repo with model.safetensors; allow_pickle=true reads .bin files."
    )


def require_folder(source: str) -> None:
    """Raise UserError for a path that is no folder with a config.json; a Hub id passes."""
    path = Path(source)
    if path.is_dir() and not (path / "config.json").is_file():
        held = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise UserError("a model folder holds a config.json", f"{source} holds {held}", "Set model= to such a folder.")
    if path.is_file() or (not path.exists() and source.startswith(("/", "./", "../", "~"))):
        found = "it is a file" if path.is_file() else "it is not there"
        raise UserError(f"model={source} must be a folder or a Hub id", found, "Check the path.")


def _refuse_pickle(source: str, allowed: bool) -> None:
    folder = Path(source)
    if not folder.is_dir():
        return
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if pickled and not allowed:
        raise UserError(
            "weights as safetensors are needed",
            f"{source} has only {pickled[0]}, a pickle, which can run code when it is read",
            "Convert it, or set allow_pickle=true if you trust its author.",
        )
    if not pickled:
        raise _no_weights(source, "a model folder with weights is needed", "no .safetensors file")


def _heads_of(task: Task, settings: Any) -> list[str]:
    """Return the head's modules before any weight is read: a head that does not exist yet cannot be quantized."""
    with torch.device("meta"):
        return head_modules(getattr(transformers, task.auto_model).from_config(settings))


def _commit(source: str, revision: str | None) -> str | None:
    """Return the commit that the cache holds for a Hub model, None for a folder."""
    if Path(source).is_dir():
        return None
    cached = huggingface_hub.try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def set_labels(settings: Any, labels: Labels) -> None:
    """Write the labels and their kind into a model's config."""
    if labels.kind == "regression":
        settings.num_labels = 1
    else:
        settings.id2label = dict(enumerate(labels.names))
        settings.label2id = {name: i for i, name in enumerate(labels.names)}
    settings.problem_type = {
        "single_label": "single_label_classification",
        "multi_label": "multi_label_classification",
        "regression": "regression",
        "tags": None,
    }[labels.kind]


def label_names(settings: Any) -> list[str]:
    """Return the labels of a model's config, in the order of its outputs."""
    return [str(settings.id2label[i]) for i in sorted(settings.id2label)] if settings.id2label else []


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


def _notices(model: nn.Module, fresh: tuple[str, ...], known: list[str], labels: Labels) -> Iterator[str]:
    if fresh:
        yield f"new weights, trained from random: {', '.join(fresh)}"
    elif labels.names and [n.lower() for n in known] != [n.lower() for n in labels.names]:
        yield f"the model's own head ({', '.join(known[:5])}) is the starting point for {', '.join(labels.names[:5])}"


def positions(model_config: Any) -> int | None:
    """Return how many tokens a model of texts has places for; None where it says none."""
    if model_config is None or "max_position_embeddings" not in model_config.to_dict():
        return None
    positions = int(model_config.max_position_embeddings)
    # RoBERTa's kin number positions from behind the padding index
    padded = model_config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")
    return positions - 2 if padded else positions


def _model_type(source: str) -> str:
    path = Path(source) / "config.json"
    kind = json.loads(path.read_text(encoding="utf-8")).get("model_type") if path.is_file() else None
    return f"of type {kind!r}" if kind else "of an unknown type"


def _remote_code(source: str, revision: str | None) -> str:
    """Return which files of a model's repo its config.json wants to run."""
    path = Path(source) / "config.json"
    if not path.is_file():
        cached = huggingface_hub.try_to_load_from_cache(source, "config.json", revision=revision)
        if not isinstance(cached, str):
            return "auto_map in its config.json"
        path = Path(cached)
    files = json.loads(path.read_text(encoding="utf-8")).get("auto_map", {})
    return ", ".join(sorted({f"{str(v).partition('.')[0]}.py" for v in files.values()})) or "auto_map"
