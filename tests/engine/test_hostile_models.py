"""Models that lie about their weights, bring code, or lack what they name: refused in words, and none of it runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
import torch
import transformers

from hftransfer import catalog
from hftransfer.config import build
from hftransfer.errors import UserError
from hftransfer.modeling.problems import explained
from hftransfer.predictor import Predictor
from tests import tiny

Change = Callable[[Path], Any]


class Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def weights(content: bytes) -> Change:
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def header(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Change the header of the weights, and leave their bytes."""

    def do(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        found = {name: value for name, value in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
        change(found)
        written = json.dumps(found).encode()
        path.write_bytes(struct.pack("<Q", len(written)) + written + data[8 + length :])

    return do


def settings(file: str = "config.json", **values: Any) -> Change:
    def do(folder: Path) -> None:
        found = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        (folder / file).write_text(json.dumps({**found, **values}))

    return do


def text(file: str, content: str) -> Change:
    return lambda folder: (folder / file).write_text(content)


def elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    names = {"bert.embeddings.word_embeddings.weight": "../../secret", "classifier.weight": "/etc/passwd"}
    text("model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": names}))(folder)


def code_alone(folder: Path) -> None:
    settings_of = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(settings_of))
    (folder / "evil.py").write_text(f"import os; os.mkdir({str(folder / 'ran')!r})")


def pickled_beside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil(folder / "ran")}, folder / "pytorch_model.bin")


WRONG: dict[str, tuple[Change, str]] = {
    "a pickle named as weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps(Evil(folder / "ran"))),
        "a model that transformers can load",
    ),
    "torch's zip named as weights": (
        lambda folder: torch.save(Evil(folder / "ran"), folder / "model.safetensors"),
        "a model that transformers can load",
    ),
    "a pickle in the place of weights": (pickled_beside, "weights as safetensors are needed"),
    "a header of 2 to the 60 bytes": (weights(struct.pack("<Q", 2**60) + b"{}"), "a model that transformers can load"),
    "a header that is no JSON": (weights(struct.pack("<Q", 10) + b"no JSON!!!"), "a model that transformers can load"),
    "weights that are not there": (weights(struct.pack("<Q", 2) + b"{}" + bytes(9)), "a model that transformers can"),
    "a shape of 2 to the 60": (header(lambda h: next(iter(h.values())).update(shape=[2**40, 2**20])), "can load"),
    "weights that share their bytes": (
        header(lambda h: next(iter(h.values())).update(data_offsets=[*h.values()][1]["data_offsets"])),
        "can load",
    ),
    "a type that is none": (header(lambda h: next(iter(h.values())).update(dtype="EVIL")), "can load"),
    "weights of files elsewhere": (elsewhere, "can load"),
    "code of its own": (code_alone, "asks to run its own code"),
    "a vocabulary of less than none": (settings(vocab_size=-5), "can load"),
    "layers that are a word": (settings(num_hidden_layers="many"), "can load"),
    "settings without end": (text("config.json", '{"a":' + "[" * 100_000), "can load"),
    "settings that are a list": (text("config.json", "[1]"), "can load"),
    "a tokenizer that is no JSON": (text("tokenizer.json", "{"), "can load"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.text_model(tmp_path_factory.mktemp("good") / "model")
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", WRONG)
def test_a_model_that_lies_is_refused_in_words(case: str, good: Path, tmp_path: Path) -> None:
    change, words = WRONG[case]
    folder = Path(shutil.copytree(good, tmp_path / "model"))
    change(folder)
    with pytest.raises(UserError) as refused:
        Predictor(str(folder))
    assert words in str(refused.value) and len(str(refused.value)) < 1500
    assert not (folder / "ran").exists(), "something of it ran"


def test_a_model_with_code_beside_a_class_of_transformers_runs_none(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "model"))
    settings(auto_map={"AutoModelForSequenceClassification": "evil.Evil"})(folder)
    settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})(folder)
    (folder / "evil.py").write_text(f"import os; os.mkdir({str(folder / 'ran')!r})")
    assert Predictor(str(folder))("a film")
    assert not (folder / "ran").exists()


def test_a_mistake_of_ours_still_shows() -> None:
    config = build({"task": "text-classification", "model": "x", "data": {"source": "y"}})
    for error in (AttributeError("ours"), MemoryError("none left"), RuntimeError("CUDA out of memory")):
        with (
            pytest.raises(type(error)),
            explained(config, catalog.task("text-classification"), "x"),
        ):
            _raise(error)


def _raise(error: Exception) -> None:
    if isinstance(error, AttributeError):  # within the package, as a mistake would be
        from hftransfer import runs

        runs.called(None)  # type: ignore[arg-type]
    raise error


RF_DETR = (
    "Could not load any image processor class for acme/rf-detr. The model configuration resolves to the following "
    "image processor classes: torchvision: RfDetrImageProcessor. None of these classes could be imported. Missing "
    "optional dependencies: torchvision. Please install the missing dependencies or select a backend that is "
    "available in your environment."
)
NO_READER = (
    "Can't load {what} for 'acme/bert'. If you were trying to load it from 'https://huggingface.co/models', make sure "
    "you don't have a local directory with the same name. Otherwise, make sure 'acme/bert' is the correct path to a "
    "directory containing {file}"
)
NO_PICTURES = NO_READER.format(what="image processor", file="a preprocessor_config.json file")
NO_WORDS = NO_READER.format(what="tokenizer", file="all relevant files for a BertTokenizer tokenizer.")
DETECTOR, WORDS = "object-detection", "text-classification"
OF_THE_HUB = {
    "RF-DETR without torchvision": (DETECTOR, ValueError(RF_DETR), "is shown a picture; .* torchvision installed"),
    "no processor": (DETECTOR, OSError(NO_PICTURES), r"is shown a picture; .*Choose a model for object-detection\.$"),
    "no tokenizer": (WORDS, OSError(NO_WORDS), "needs a model with a tokenizer; .*Choose a model for text-class"),
    "an address with a processor in it": (
        DETECTOR, OSError("500 Server Error for url: https://x/preprocessor_config.json"), "Check model and revision"
    ),
    "an address with a tokenizer in it": (
        WORDS, OSError("500 Server Error for url: https://x/tokenizer_config.json"), "Check model and revision"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_THE_HUB)
def test_a_repo_without_what_reads_for_it_gets_the_advice_of_a_folder(case: str) -> None:
    name, error, words = OF_THE_HUB[case]
    config = build({"task": name, "model": "acme/bert", "data": {"source": "y"}})
    with pytest.raises(UserError, match=words), explained(config, catalog.task(name), "acme/bert"):
        raise error


@pytest.mark.parametrize("line", [TimeoutError("late"), ConnectionError("no line"), httpx.ReadTimeout("late")])
def test_a_line_that_broke_is_no_model_without_a_processor(line: Exception) -> None:
    """transformers says so of whatever is raised while it asks the Hub for a file."""
    config = build({"task": DETECTOR, "model": "acme/bert", "data": {"source": "y"}})
    with (
        pytest.raises(UserError, match="Check model and revision"),
        explained(config, catalog.task(DETECTOR), "acme/bert"),
    ):
        try:
            raise line
        except Exception:
            raise OSError(NO_PICTURES)  # noqa: B904


def test_a_repo_in_the_cache_tells_its_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rf_detr"}))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "config.json"))
    config = build({"task": DETECTOR, "model": "acme/rf-detr", "data": {"source": "y"}})
    with (
        pytest.raises(UserError, match="acme/rf-detr is of type 'rf_detr': Could not load any image processor class"),
        explained(config, catalog.task(DETECTOR), "acme/rf-detr"),
    ):
        raise ValueError(RF_DETR)
