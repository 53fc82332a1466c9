"""What is wrong with a model that the user named, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from hftransfer import samples
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.safety import intact
from hftransfer.tasks.base import Task

PACKAGE = Path(__file__).parents[1]
# what transformers says of a repo that has no such reader, or one that cannot be made here: for a folder its name is
# enough, but the address of any file of the Hub that did not come may hold it too
READERS = re.compile(
    r"Can't load (the )?(tokenizer|image processor|feature extractor|processor)\b|any image processor class"
    r"|Unrecognized (image processor|feature extractor|processing class)|instantiate the backend tokenizer"
    r"|requires the torchvision library",
    re.IGNORECASE,
)


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
    except UserError:
        require_intact(source, config.revision)
        raise
    except Exception as error:
        if _is_ours(error) or isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise
        raise _load_problem(name, task, source, config.revision, error) from error


def _is_ours(error: BaseException) -> bool:
    """Tell whether an error is a mistake of ours, or the line's: libraries raise anything about damaged files."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    inside = place is not None and Path(place.tb_frame.f_code.co_filename).is_relative_to(PACKAGE)
    return inside or type(error).__module__.startswith("httpx")


def require_intact(source: str, revision: str | None) -> None:
    """Raise UserError when what came from the Hub, or lies in its cache, is not what the Hub has."""
    if not Path(source).is_dir():
        intact.require(intact.snapshot(source, "model", revision), source, samples.cache_folder() / intact.RECORD)


def _load_problem(name: str, task: Task, source: str, revision: str | None, error: Exception) -> Exception:
    require_intact(source, revision)  # what cannot be read may be none of the repo's: then it is fetched again
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
        return _other_type(name, task, _model_type(source, revision))
    if not local and ("couldn't connect" in text or "offline" in text.lower() or "connection" in text.lower()):
        return _hub_problem(name, error)
    if "safetensors" in text and ("no file" in text or "does not appear to have" in text):
        return _no_weights(name, "weights as safetensors are needed", "there are none, or only pickled ones")
    if "no file named" in text or "does not appear to have a file named" in text:
        return _no_weights(name, "a folder or repo with a whole model is needed", short)
    reads = local or (READERS.search(text) is not None and not _of_the_line(error))
    if reads and not task.lazy and "okenizer" in text:
        return no_tokenizer(name, task, f"{name} is {_model_type(source, revision)}: {short}")
    if reads and task.lazy and ("rocessor" in text or "extractor" in text):
        shown = next(role.takes.asked for role in task.shown if role.takes is not None and role.takes.lazy)
        alone = "orchvision" in text or "any image processor class" in text
        more = "; processors for torchvision alone need torchvision installed" if alone else ""
        return UserError(
            f"{task.name} needs a model that is shown {shown}",
            f"{name} is {_model_type(source, revision)}: {text.partition('. ')[0][:300]}",
            f"Choose a model for {task.name}{more}.",
        )
    if isinstance(error, KeyError):
        return error
    return UserError("a model that transformers can load is needed", f"{name}: {short}", "Check model and revision.")


def _of_the_line(error: BaseException) -> bool:
    """Tell whether an error came of one of the Hub's, or of the line: transformers says then that a file lacks."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        line = isinstance(found, hub_errors.HfHubHTTPError | hub_errors.LocalEntryNotFoundError | ConnectionError)
        if line and not isinstance(found, hub_errors.RemoteEntryNotFoundError):  # the Hub was asked, and has none
            return True
        if isinstance(found, TimeoutError) or type(found).__module__.startswith(("httpx", "httpcore")):
            return True
        seen.append(found)
        found = found.__cause__ or found.__context__
    return False


def require_type(config: RunConfig, task: Task, settings: Any) -> None:
    """Raise UserError for a model of a type that the task's Auto class has no model for."""
    kind = settings.model_type
    goes_on = task.auto_model == "AutoModelForCausalLM"
    if goes_on and kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not settings.to_dict().get("is_decoder"):
        raise UserError(
            f"{task.name} needs a model that goes on from a text", f"{config.model} is of type {kind!r}, an encoder: "
            "it reads a text from both sides, and would see what it is to tell",
            "Choose a model for text-generation, or a task for encoders: hftransfer tasks.",
        )  # fmt: skip
    if type(settings) in task.auto_class(settings)._model_mapping or hasattr(settings, "auto_map"):
        return
    decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    writes = any(answer.generates for answer in task.answers)
    more = ", which writes on from a text: it is for text-generation" if decoder and writes else ""
    raise _other_type(config.model, task, f"of type {kind!r}{more}")


def _other_type(name: str, task: Task, kind: str) -> UserError:
    return UserError(
        f"{task.name} needs a model that {task.auto_model} can load", f"{name} is {kind}",
        f"Choose a model for {task.name}.",
    )  # fmt: skip


def no_tokenizer(name: str, task: Task, found: str) -> UserError:
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


def refuse_pickle(source: str, allowed: bool) -> None:
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


def _settings_of(source: str, revision: str | None) -> Path | None:
    """Return where the config.json of a folder is, or that of a repo in the cache."""
    path = Path(source) / "config.json"
    if path.is_file():
        return path
    if Path(source).is_absolute():
        return None
    try:
        cached = huggingface_hub.try_to_load_from_cache(source, "config.json", revision=revision)
    except hub_errors.HFValidationError:  # no id of a repo
        return None
    return Path(cached) if isinstance(cached, str) else None


def _model_type(source: str, revision: str | None) -> str:
    path = _settings_of(source, revision)
    settings = json.loads(path.read_text(encoding="utf-8")) if path is not None else None
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    return f"of type {kind!r}" if kind else "of an unknown type"


def _remote_code(source: str, revision: str | None) -> str:
    """Return which files of a model's repo its config.json wants to run."""
    path = _settings_of(source, revision)
    if path is None:
        return "auto_map in its config.json"
    files = json.loads(path.read_text(encoding="utf-8")).get("auto_map", {})
    return ", ".join(sorted({f"{str(v).partition('.')[0]}.py" for v in files.values()})) or "auto_map"
