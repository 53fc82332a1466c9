"""A greedy soup: the mean of a fit's last checkpoints, where validation rows say that it is better than the best one.

Wortsman et al. 2022 (arXiv:2203.05482) average models of several fits; checkpoints of one fit lie nearer together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hftransfer.evaluation.scoring import measure_point
from hftransfer.fitting import trials
from hftransfer.fitting.base import Setup
from hftransfer.fitting.processes import wait_for_everyone
from hftransfer.runs import UNPLANNED, is_whole

ADAPTER = "adapter_model.safetensors"
WHOLE = "model.safetensors"
ENOUGH = 100  # validation rows; fewer cannot tell such small differences

Weights = Mapping[str, torch.Tensor]


def stir(setup: Setup, model: Any, since: int = 0) -> dict[str, Any]:
    """Give `model`, the best of a fit, the mean of some checkpoints if it validates better; return what was tried.

    {} where nothing could be: few validation rows, one checkpoint, weights in several files. A mean is taken when
    the figure that models are judged by gains and the main metric does not lose. Checkpoints of later steps than
    `since` alone.
    """
    found = (one for one in setup.place.glob("checkpoint-*") if is_whole(one) and not (one / UNPLANNED).exists())
    later = sorted((one for one in found if trials.step_of(one) > since), key=trials.step_of)
    folders = [one for one in later if _file(one) is not None]
    if len(setup.prepared["validation"].rows) < ENOUGH or len(folders) < 2:
        return {}
    own = trials.kept(model)
    base, score = _judged(setup, model)
    alone = []
    for folder in folders:
        _put(model, _read(folder))
        alone.append((_judged(setup, model)[0], trials.step_of(folder), folder))
    order = [folder for _, _, folder in sorted(alone)]
    chosen, best, reached = order[:1], min(alone)[0], score
    for folder in order[1:]:
        _put(model, _mean([_read(one) for one in (*chosen, folder)]))
        loss, value = _judged(setup, model)
        if loss < best and value >= score:
            chosen, best, reached = [*chosen, folder], loss, value
    taken = len(chosen) > 1 and best < base and reached >= score
    trials.put_back(model, own)
    if taken:
        _put(model, _mean([_read(one) for one in chosen]))
    wait_for_everyone()
    steps = sorted(trials.step_of(one) for one in chosen) if taken else []
    return {"steps": steps, "loss": best if taken else base, "without": base, "tried": 2 * len(folders)}


def _judged(setup: Setup, model: Any) -> tuple[float, float]:
    """Return what a model is judged by, less is better, and its main metric, more is better."""
    _, loss, found = trials.judged(setup, model)
    name = setup.answer.main_metric
    if found is None or setup.answer.generates:
        return loss, 0.0  # texts are judged by their likelihood: whole answers are not asked for
    sign = 1.0 if setup.answer.metrics[name].greater_is_better else -1.0
    return loss, sign * measure_point(found, [name]).get(name, 0.0)


def _file(folder: Path) -> Path | None:
    return next((folder / name for name in (ADAPTER, WHOLE) if (folder / name).is_file()), None)


def _read(folder: Path) -> Weights:
    from safetensors.torch import load_file

    path = _file(folder)
    assert path is not None
    found: Weights = load_file(path)
    return found


def _mean(several: Sequence[Weights]) -> Weights:
    first = several[0]
    return {
        name: sum((one[name].double() for one in several), torch.zeros_like(value, dtype=torch.float64))
        .div(len(several))
        .to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }


def _put(model: Any, weights: Weights) -> None:
    from peft import PeftModel
    from peft.utils import set_peft_model_state_dict

    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, dict(weights))
    else:
        model.load_state_dict(weights, strict=False)  # tied weights stand once in the file
