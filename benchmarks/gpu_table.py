"""The section of docs/benchmarks.md that the figures of benchmarks.gpu make."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import page

TITLE = "One GPU"
COMMAND = "python -m benchmarks.run gpu"
NAMED = ("hftransfer", "python", "torch", "transformers", "peft")  # versions that the section tells
PICTURE_TOKENS = 197  # of a ViT-B/16 at 224 pixels, and how many weights each is multiplied with
PICTURE_WEIGHTS = 85_600_000
Figure = dict[str, Any]


def section(found: Sequence[Figure]) -> str:
    """Return the whole section; figures that are missing are said to be."""
    parts = [stamp(found), ABOUT, ceilings(found), overhead(found), steps(found), timed(found), waits(found)]
    return "\n\n".join(part for part in [*parts, missing(found)] if part)


ABOUT = (
    "Weights are random and rows made up, in the shapes of MiniLM (6 layers of 384), ViT-B/16, SmolLM2-135M and "
    "Llama-3.2-1B: these are speeds, and no scores. Useful work counts 6 operations a weight and real token (4 where "
    "the weights themselves do not train), embeddings left out of encoders."
)


def of(found: Sequence[Figure], name: str) -> list[Figure]:
    """Return the figures of a name."""
    return [one for one in found if one["figure"] == name]


def stamp(found: Sequence[Figure]) -> str:
    """Return the section's first line."""
    one = of(found, "machine")[-1]
    versions = ", ".join(f"{name} {one['versions'][name]}" for name in NAMED)
    gpu = f"{one['gpu']}, {one['gpu_mib'] / 1024:.0f} GiB" if one["gpu"] else f"No GPU: {one['processor']}"
    return f"`{COMMAND}`, {one['day']}. {gpu}; {one['cores']} cores, {one['memory_gib']} GiB. {versions}."


def best(found: Sequence[Figure]) -> float:
    """Return the best rate of a matrix product, in TFLOP/s; NaN where none was measured."""
    return max((one["tflops"] for one in of(found, "product")), default=float("nan"))


def ceilings(found: Sequence[Figure]) -> str:
    """Return what the card can do."""
    products = ", ".join(f"{one['type']} {one['tflops']:.3g}" for one in of(found, "product"))
    copies = ", ".join(f"{one['gbytes']:,.0f}" for one in of(found, "copy"))
    return products and f"Ceilings: the product of large matrices, TFLOP/s: {products}; a copy, GB/s: {copies}."


def overhead(found: Sequence[Figure]) -> str:
    """Return the engine beside a bare Trainer and a loop."""
    rows: page.Table = [("rows an update", "", "seconds, each round", "over the loop")]
    for one in of(found, "overhead"):
        loop = statistics.median(one["seconds"]["loop"])
        for name, seconds in one["seconds"].items():
            over = f"{statistics.median(seconds) / loop - 1:+.1%}"
            rows.append((one["rows"], name, page.numbers(seconds, 3), over))
    if len(rows) == 1:
        return ""
    told = "; ".join(
        f"{one['rows']} rows an update: {one['examples']:,.0f} examples/s, "
        f"{share(6 * one['body'] * one['tokens_a_row'] * one['examples'], found)}"
        for one in of(found, "overhead")
    )
    steps = of(found, "overhead")[0]["steps"]
    text = (
        f"Texts of {of(found, 'overhead')[0]['tokens_a_row']:.0f} tokens, {steps} updates, the same weights and rows."
    )
    return f"{text}\n\n{page.table(rows)}\n\nThe engine, {told}."


def share(work: float, found: Sequence[Figure]) -> str:
    """Return so many operations a second, and their share of the best product."""
    return f"{work / 1e12:.3g} TFLOP/s, **{work / 1e12 / best(found):.1%}** of the product"


def steps(found: Sequence[Figure]) -> str:
    """Return what a step of each other kind takes."""
    rows: page.Table = [("", "a second", "ms a step", "memory, MB", "before the steps, s", "useful work")]
    for one in of(found, "pictures"):
        work = 6 * PICTURE_WEIGHTS * PICTURE_TOKENS * one["examples"]
        name = f"pictures, {one['workers']} loader process{'es' * (one['workers'] != 1)}"
        waiting = f"{share(work, found)}; waits {one['waiting']:.0%}"
        rows.append((name, f"{one['examples']:,.0f} pictures", *common(one), waiting))
    for one in of(found, "chat"):
        work = (4 if one["way"] != "full" else 6) * one["weights"] * one["tokens"]
        known = "" if one["way"] == "qlora" else share(work, found)  # 4-bit weights are counted in pieces
        rows.append((f"{one['model']}, {one['way']}", f"{one['tokens']:,.0f} tokens", *common(one), known))
    for one in of(found, "compile"):
        name = f"{one['what']}, {'compiled' if one['compiled'] else 'as it is'}"
        rows.append((name, f"{one['examples']:,.0f} examples", *common(one), ""))
    return page.table(rows) if len(rows) > 1 else ""


def common(one: Figure) -> tuple[str, str, str]:
    """Return what every kind of step has."""
    return f"{1000 * one['step']:.1f}", f"{one['memory_mb']:,}", f"{one['before']:.1f}"


def timed(found: Sequence[Figure]) -> str:
    """Return what the engine tried, and chose."""
    return "\n\n".join(
        f"Chosen by timing for {one['what']}: {one['attention']}, {'bf16' if one['bf16'] else 'float32'}, in "
        f"{one['seconds']:.1f} s. Tried, in examples/s of forward and backward: "
        + "; ".join(f"{name} {value:,.0f}" for name, value in one["timings"].items()) + "."
        for one in of(found, "timed")
    )  # fmt: skip


def waits(found: Sequence[Figure]) -> str:
    """Return where a step made the processor wait."""
    lines = []
    for one in of(found, "waits"):
        places = "; ".join(f"{place} {count / one['steps']:.2g}" for place, count in one["places"].items())
        lines.append(f"Waits for the GPU in a step of {one['what']}: {places or 'none'}.")
    return "\n".join(lines)


def missing(found: Sequence[Figure]) -> str:
    """Return what was not measured."""
    lines = [
        f"Not measured: {one['part']} ({one['why']})." for name in ("failed", "left out") for one in of(found, name)
    ]
    if not any(one["way"] == "qlora" for one in of(found, "chat")):
        lines.append("Not measured: 4-bit weights (bitsandbytes was not there).")
    return "\n".join(lines)
