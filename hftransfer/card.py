"""The model card of an artifact: a short test report."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import yaml

from hftransfer import catalog
from hftransfer.artifact import public_name
from hftransfer.config import RunConfig
from hftransfer.runs import write_text

USAGE = """from transformers import pipeline

pipeline("{task}", "path/or/repo")({example})"""


def write(folder: Path, result: dict[str, Any], config: RunConfig) -> Path:
    """Write README.md beside the weights."""
    path = folder / "README.md"
    write_text(path, front_matter(result, config) + body(result, config))
    return path


def front_matter(result: dict[str, Any], config: RunConfig) -> str:
    """Return the metadata block that the Hub reads."""
    model = public_name(config.model)
    fields = {
        "library_name": "transformers",
        "pipeline_tag": result["task"],
        **({"base_model": model} if "/" in model else {}),
        "tags": ["hftransfer", result["method"]],
        "metrics": sorted(result["test"]["metrics"]),
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n\n"


def body(result: dict[str, Any], config: RunConfig) -> str:
    """Return the text of the card."""
    model, source = plain(public_name(config.model)), plain(public_name(config.data.source))
    test, baseline, spent, data = result["test"], result["baseline"], result["cost"], result["data"]
    below = baseline.get("below")
    sizes = ", ".join(f"{name} {count}" for name, count in data["splits"].items())
    template = resources.files("hftransfer").joinpath("card_template.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=f"{model}, adapted to {source}",
        sentence=f"A {result['task']} model: {model}, adapted with method {plain(result['method'])} to {source}.",
        n=test["n"],
        confidence=f"{config.evaluation.confidence * 100:g}",
        table=table(test["metrics"], baseline["metrics"]),
        baseline_name=baseline["name"],
        below=f" **{below}**" if below else "",
        cost=(
            f"{spent['total_seconds']} s in all, {spent['train_seconds']} s of them training; "
            f"{spent['peak_memory_mb']} MB at the peak; {spent['trainable_parameters']:,} of "
            f"{spent['total_parameters']:,} parameters trained."
        ),
        data="\n".join([f"{sizes}; fingerprint `{data['fingerprint'][:16]}`.", *notes(data["warnings"])]),
        usage=USAGE.format(task=config.task, example=catalog.task(config.task).example),
        version=result["versions"]["hftransfer"],
    )


def table(metrics: dict[str, Any], baseline: dict[str, Any]) -> str:
    """Return the metrics as a Markdown table, with intervals and the baseline."""
    rows = ["| metric | value | interval | baseline |", "| --- | --- | --- | --- |"]
    for name, found in metrics.items():
        beside = baseline.get(name)
        base = "" if beside is None else f"{beside['value']:.4f}"
        rows.append(f"| {name} | {found['value']:.4f} | {found['low']:.4f} to {found['high']:.4f} | {base} |")
    return "\n".join(rows)


def notes(warnings: list[str]) -> list[str]:
    """Return the run's warnings as a list."""
    return ["", *(f"- {plain(warning)}" for warning in warnings)] if warnings else []


def plain(text: str) -> str:
    """Return text from users or data so that it can be neither HTML nor Markdown."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|!$~])", r"\\\1", text)
