"""Which model is proposed for a task: a sample that was fetched, else the first of the well-known ones."""

from __future__ import annotations

from huggingface_hub import constants

from hftransfer import catalog, samples
from hftransfer.samples.sample import Sample


def usual(task: str) -> str:
    """Return the model that is proposed for a task: a sample that is here, else the first of the well-known ones.

    Where the Hub is said to be out of reach, a sample that is still to be fetched comes before those.
    """
    found, known = sample_models(task), catalog.task(task).known_models
    if found and (found[0].present or constants.HF_HUB_OFFLINE):
        return f"{samples.PREFIX}{found[0].name}"
    return known[0].repo if known else ""


def is_proposed(name: str) -> bool:
    """Tell whether a model is one that was proposed for some task, not one that somebody chose."""
    return any(name == usual(task) for task in catalog.tasks())


def sample_models(task: str) -> list[Sample]:
    """Return the samples that a task may start from, those that were fetched first."""
    found = [one for one in samples.models() if task in (one.task, *one.also)]
    return sorted(found, key=lambda one: not one.present)
