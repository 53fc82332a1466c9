"""A model as ONNX: for onnxruntime, and for transformers.js in a browser or Node; float32, and 8 bits a weight."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import inspect
import io
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from hftransfer import data
from hftransfer.answers.base import Rows
from hftransfer.artifact import ONNX, ONNX_REPORT
from hftransfer.errors import UserError
from hftransfer.evaluation import scoring
from hftransfer.evaluation.predictions import Predictions
from hftransfer.hub.verification import EXAMPLES, require_examples
from hftransfer.modeling import inference
from hftransfer.modeling.batches import collator
from hftransfer.modeling.prepared import prepare
from hftransfer.predictor import Predictor
from hftransfer.runs import Run, require_artifact, write_text

NEEDS = ("onnx", "onnxscript", "onnxruntime")
WHOLE, SMALL = "model.onnx", "model_quantized.onnx"  # names by which transformers.js finds them
OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state")  # those that its pipelines read
TOLERANCE = 1e-4  # of a model's outputs; those of logits are below a few tens
LARGEST = 2**31  # bytes of one file of this format
HEARS, HEARD = "whisper", 8  # a family that hears and writes; recordings on which its parts are held against it


def export(run: Run) -> dict[str, Any]:
    """Write a run's model as ONNX into `onnx/` of its artifact, and return what report.json there holds.

    The float32 model answers the test rows that the run kept as PyTorch does, to 1e-4 of every output; the one of 8
    bits a weight is scored on the test rows. Raises UserError for a model that cannot be exported, and for an export
    that answers otherwise: then nothing is written.
    """
    folder = require_artifact(run)
    require_examples(run)
    for name in NEEDS:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                "the packages onnx, onnxscript and onnxruntime are needed", f"{name} is not installed",
                "Run: pip install 'hftransfer-learning[onnx]'",
            )  # fmt: skip
    predictor = Predictor(folder)
    hears = predictor.model.config.model_type == HEARS
    if predictor.answered.generates and not hears:
        raise UserError(
            "a model that answers in one pass, or a Whisper, is needed",
            f"{predictor.answered.called} are written token by token by {type(predictor.model).__name__}",
            "Use it in Python: ONNX of other models that write is not made here.",
        )  # fmt: skip
    if predictor.answered.read_beside:
        raise UserError(
            "a run whose model alone gives the answers is needed",
            f"those of method.name={run.config().method.name} are read by a second model over vectors of the first",
            "Use it in Python, as its card shows; what was trained by another method can be exported.",
        )  # fmt: skip
    fresh = folder / f".{ONNX}"  # renamed when whole
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        report = (_export_heard if predictor.answered.generates else _export)(run, predictor, fresh)
        write_text(fresh / ONNX_REPORT, json.dumps(report, indent=1))
        shutil.rmtree(folder / ONNX, ignore_errors=True)
        fresh.rename(folder / ONNX)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return report


def _export_heard(run: Run, predictor: Predictor, folder: Path) -> dict[str, Any]:
    """Write a model that hears and writes, in two parts, and hold them against it."""
    from hftransfer.export import hearing

    rows, model, artifact = examples_of(run, predictor), predictor.model, run.artifact
    require_size(model)
    with hearing.heard(model) as calls:
        written = predictor.ask(rows[:HEARD])
    features = calls[0]
    model.cpu().float().eval()
    with refused():
        hearing.write(model, features, folder)
    tokens = hearing.tokens(predictor.processor, model, [one.text for one in written][: len(features)])
    apart = hearing.difference(model, features[: len(tokens)], tokens, folder)
    require_near(apart, min(HEARD, len(rows)))
    parts = (hearing.ENCODER, hearing.DECODER)
    for name in parts:
        quantize(model, folder / f"{name}.onnx", folder / f"{name}_quantized.onnx")
    predictor.processor.feature_extractor.save_pretrained(artifact)  # where transformers.js looks for its settings
    files = [f"{name}{suffix}.onnx" for name in parts for suffix in ("", "_quantized")]
    return {
        "inputs": [hearing.SHOWN, "input_ids"], "outputs": ["logits"],
        "files": {name: (folder / name).stat().st_size for name in files},
        "rows": min(HEARD, len(rows)), "largest_difference": apart,
        "quantized": score(run, predictor, hearing.standing_in(model, folder, "_quantized"), rows),
        "transformers_js": (artifact / "tokenizer.json").is_file(), "versions": versions(),
    }  # fmt: skip


def _export(run: Run, predictor: Predictor, folder: Path) -> dict[str, Any]:
    rows = examples_of(run, predictor)
    with overheard(predictor.model) as calls:
        predictor.ask(rows)
        for row in rows[:2]:  # batches and lengths of other sizes than those that are exported with
            predictor.ask([row])
    inputs, outputs = calls[0]
    require_size(predictor.model)
    write(predictor.model, inputs, [*outputs], folder / WHOLE)
    apart = float(np.max([*differences(folder / WHOLE, predictor.model, calls)]))  # which keeps NaN, as max() may not
    require_near(apart, len(rows))
    quantize(predictor.model, folder / WHOLE, folder / SMALL)
    artifact = run.artifact
    return {
        "inputs": [*inputs],
        "outputs": [*outputs],
        "files": {name: (folder / name).stat().st_size for name in (WHOLE, SMALL)},
        "rows": len(rows),
        "largest_difference": apart,
        "quantized": score(run, predictor, replaced(predictor, folder / SMALL), rows),
        # it reads tokenizers in one form alone
        "transformers_js": (artifact / "tokenizer.json").is_file()
        or not (artifact / "tokenizer_config.json").is_file(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions that an export depends on."""
    return {name: importlib.metadata.version(name) for name in (*NEEDS, "torch")}


def require_size(model: nn.Module) -> None:
    """Raise UserError for a model that is too large for one file."""
    size = sum(parameter.numel() for parameter in model.parameters()) * 4
    if size >= LARGEST:
        raise UserError(
            "a model below 2 GB in float32 is needed", f"this one has {size / 2**30:.1f} GB", "Use it in Python."
        )


def require_near(apart: float, rows: int) -> None:
    """Raise UserError for an export that answers otherwise than PyTorch does."""
    if not apart <= TOLERANCE:
        raise UserError(
            f"an ONNX model that answers as PyTorch does, to {TOLERANCE:g}, is needed",
            f"its outputs on {rows} stored test rows are up to {apart:.2g} off", "Use it in Python.",
        )  # fmt: skip


def examples_of(run: Run, predictor: Predictor) -> list[dict[str, Any]]:
    """Return the test rows that a run kept, as its model takes them."""
    taken = {role.name: role.takes for role in predictor.task.shown if role.takes is not None}
    kept = pq.read_table(run.predictions / EXAMPLES).drop_columns(["row_id"]).to_pylist()
    return [predictor.task.row({role: taken[role].stored(value) for role, value in row.items()}) for row in kept]


Call = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]


@contextlib.contextmanager
def overheard(model: nn.Module) -> Iterator[list[Call]]:
    """Note the tensors that a model is given, and those that it gives, by name, each time that it is asked."""
    calls: list[Call] = []
    known = inspect.signature(model.forward).parameters

    def listen(module: nn.Module, args: Any, given: Mapping[str, Any], found: Any) -> None:
        inputs = {
            name: value.cpu() for name, value in given.items() if name in known and isinstance(value, torch.Tensor)
        }
        calls.append((inputs, {name: found[name].cpu() for name in OUTPUTS if name in found}))

    handle = model.register_forward_hook(listen, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


class _Positional(nn.Module):
    """A model whose inputs come in order and whose outputs are a tuple, as the exporter takes them."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, values, strict=True)))
        return tuple(found[name] for name in self.outputs)


def write(model: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], path: Path) -> None:
    """Write a model as ONNX: any number of rows, and of what has two dimensions (tokens, samples) any length."""
    dynamic = torch.export.Dim.DYNAMIC
    shapes = [dict.fromkeys(range(2 if value.ndim == 2 else 1), dynamic) for value in inputs.values()]
    whole = _Positional(model.cpu().float(), [*inputs], outputs).eval()
    with refused(), torch.no_grad():
        program = torch.onnx.export(
            whole, tuple(value.clone() for value in inputs.values()), dynamo=True, external_data=False,
            input_names=[*inputs], output_names=list(outputs), dynamic_shapes=(tuple(shapes),), verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(path, external_data=False)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Turn what torch.onnx cannot export into a UserError in its words; what it prints on the way is not shown."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        except torch.onnx.OnnxExporterError as error:
            words = " ".join(str(error).split())[:300]
            raise UserError("a model that torch.onnx can export is needed", words, "Use it in Python.") from error


def quantize(model: nn.Module, source: Path, target: Path) -> None:
    """Write a model with 8 bits a weight; activations are quantized as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # as transformers.js' own script does: onnxruntime has no kernel for convolutions with signed weights
    convolves = any(isinstance(module, nn.Conv1d | nn.Conv2d) for module in model.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8 if convolves else QuantType.QInt8)


class Runtime(nn.Module):
    """An ONNX model that is asked like the PyTorch model that it was made of."""

    def __init__(self, path: Path, model: nn.Module) -> None:
        super().__init__()
        self.made_of = (model,)  # in a tuple: no part of this one
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)

    def __getattr__(self, name: str) -> Any:
        """Return what an answer asks of a model beside its outputs, of the model that this was made of."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["made_of"][0], name)

    def forward(self, **given: Any) -> dict[str, torch.Tensor]:
        """Return the outputs by name, on the CPU."""
        found = self.session.run(self.outputs, {name: given[name].cpu().numpy() for name in self.inputs})
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(self.outputs, found, strict=True)}


def differences(path: Path, model: nn.Module, calls: Sequence[Call]) -> Iterator[float]:
    """Yield the largest difference of each call's outputs; those of padding are nobody's, and are left out."""
    runtime = Runtime(path, model)
    for inputs, outputs in calls:
        found = runtime(**inputs)
        for name, wanted in outputs.items():
            apart = (found[name] - wanted).abs()
            mask = inputs.get("attention_mask")
            if mask is not None and apart.shape[:2] == mask.shape:
                apart = apart[mask.bool()]
            yield float(apart.max())


@contextlib.contextmanager
def replaced(predictor: Predictor, path: Path) -> Iterator[None]:
    """Let a predictor ask an ONNX file in place of its model."""
    model, predictor.model = predictor.model, Runtime(path, predictor.model)
    try:
        yield
    finally:
        predictor.model = model


def score(
    run: Run, predictor: Predictor, standing_in: AbstractContextManager[None], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return the main score of a model of 8 bits a weight with its interval, beside that of the whole model.

    It is asked all test rows where the run's source can still be read, else those that the run kept (`n` says how
    many): the whole model's score is of the same rows. None where some rows alone say nothing of the score.
    """
    stored = Predictions.read_parquet(run.predictions / "test.parquet", predictor.answered)
    config, name = run.config(), predictor.answered.main_metric
    with standing_in:
        outputs: Rows | None = _of_source(run, predictor)
        if outputs is None and predictor.answered.compares:
            return None
        if outputs is None:
            kept = set(pq.read_table(run.predictions / EXAMPLES)["row_id"].to_pylist())
            stored = stored.select(np.array([row_id in kept for row_id in stored.row_ids]))
            outputs = predictor.ask(rows)
    answered = Predictions(predictor.answered, stored.row_ids, stored.truth, outputs, stored.groups)
    at = (config.evaluation.confidence, config.evaluation.resamples, config.seed)
    found = scoring.measure_only(answered, [name], *at)
    whole = scoring.measure_point(stored, [name])
    return {
        "metric": name, "n": len(stored), "confidence": config.evaluation.confidence, **found.get(name, {}),
        "whole": whole.get(name),
        "differing": predictor.answered.differing(outputs, stored.outputs, name),
    }  # fmt: skip


def _of_source(run: Run, predictor: Predictor) -> Rows | None:
    """Return the answers to all test rows, read from the run's source again; None where it is gone or was changed."""
    config = run.config()
    if config.data.streaming:
        return None
    try:
        found = data.load(config.data, predictor.task, config.seed)
    except (UserError, OSError):
        return None
    if found.fingerprints.get("test") != run.result()["data"]["split_fingerprints"]["test"]:
        return None
    preparation = dataclasses.replace(predictor.preparation, answer=found.answer)
    prepared = prepare(predictor.task, found.splits["test"], predictor.processor, preparation, training=False)
    collate = collator(predictor.task, predictor.processor, preparation, training=False)
    return inference.ask(predictor.answered, predictor.model, prepared, collate, predictor.processor, alone=True)
