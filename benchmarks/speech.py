"""What a small recogniser learns of a telephone's numbers, and what hearing them costs beside the training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, Sizes, train
from benchmarks.page import Table, table
from hftransfer import catalog, data
from hftransfer.inputs.audio import AUDIO
from hftransfer.modeling import loading
from hftransfer.processors import ear_of, hear
from hftransfer.runs import Run

CONFIG = ROOT / "configs" / "automatic-speech-recognition" / "full.yaml"
TIMED = 60  # clips
SCORES = ("wer", "wer_normalized", "cer", "cer_normalized")


def measure(folder: Path, sizes: Sizes) -> str:
    """Score the model as it is and tuned, and time how its clips are read."""
    before = train(folder / "before", CONFIG, "method.name=zero_shot", *sizes.cap)
    after = train(folder / "after", CONFIG, *sizes.cap)
    decoding, spectra, heard = reading(sizes)
    step = 1 / after.result()["cost"]["examples_per_second"]
    rows: Table = [("", *(f"`{name}`" for name in SCORES))]
    rows += [(name, *scores(run)) for name, run in (("as it is", before), ("tuned", after))]
    count = before.result()["test"]["n"]
    settings = catalog.read_config(CONFIG)
    return "\n\n".join(
        [
            f"`{settings.model}` on `{settings.data.source}`: prompts of a telephone exchange joined at "
            f"random, so that their transcripts are exact; {count:,} test clips. The "
            "words are English, the numbers are written out in words, which the model as it is writes as digits: "
            "the normalised scores do not count that.",
            table(rows),
            f"A clip lasts {heard:.1f} s on average. Decoding and resampling one takes {1000 * decoding:.1f} ms, its "
            f"spectrum {1000 * spectra:.1f} ms; a clip of training takes {1000 * step:.0f} ms, forward and backward. "
            f"Decoding is **{decoding / (decoding + spectra + step):.1%}** of that.",
        ]
    )


def scores(run: Run) -> list[str]:
    """Return a run's scores with their intervals."""
    found: dict[str, Any] = run.result()["test"]["metrics"]
    return ["{value:.3f} ({low:.3f} to {high:.3f})".format(**found[name]) for name in SCORES]


def reading(sizes: Sizes) -> tuple[float, float, float]:
    """Return the seconds that decoding and resampling a clip takes, those of its spectrum, and its length."""
    settings = catalog.read_config(CONFIG, sizes.cap)
    task = catalog.task(settings.task)
    processor = loading.load_processor(settings, task)
    rows = data.load(settings.data, task, settings.seed).splits["train"]["audio"][:TIMED]
    rate = ear_of(processor).sampling_rate
    began = time.perf_counter()
    sounds = [AUDIO.opened(row, settings.data) for row in rows]
    waveforms = [sound.at(rate) for sound in sounds]
    decoded = time.perf_counter()
    hear(processor, waveforms)
    ended = time.perf_counter()
    seconds = sum(sound.seconds for sound in sounds)
    return (decoded - began) / len(rows), (ended - decoded) / len(rows), seconds / len(rows)
