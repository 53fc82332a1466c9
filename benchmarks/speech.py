"""What a small recogniser learns of a telephone's numbers in two languages, and what hearing costs beside training."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, Sizes, train
from benchmarks.overhead import Clock
from benchmarks.page import Table, table
from hftransfer import catalog, data, training
from hftransfer.fitting import trainer
from hftransfer.fitting.interruption import Interruption
from hftransfer.inputs.audio import AUDIO
from hftransfer.modeling import loading
from hftransfer.processors import ear_of, hear
from hftransfer.runs import Run

CONFIG = ROOT / "configs" / "automatic-speech-recognition" / "full.yaml"
SPANISH = ("data.source=sample:telephone-numbers-es", "train.num_train_epochs=4", "train.learning_rate=1e-4")
ROWS = 300  # clips of each language; more changes the intervals alone
TIMED = 60  # clips
STEPS, WARM = 4, 1  # of training that is timed
SCORES = ("wer", "wer_normalized", "cer", "cer_normalized")


def measure(folder: Path, sizes: Sizes) -> str:
    """Score the model as it is and tuned, and time how its clips are read."""
    decoding, spectra, step, heard = reading(sizes)
    return "\n\n".join(
        [
            f"{about(sizes)}: prompts of a telephone exchange joined at random, so that their transcripts are exact. "
            "The words are English, the numbers are written out in words, which the model as it is writes as digits: "
            "the normalised scores do not count that.",
            *scored(folder, sizes),
            f"A clip lasts {heard:.1f} s on average. Of the processor's time, decoding and resampling one takes "
            f"{1000 * decoding:.1f} ms, its spectrum {1000 * spectra:.1f} ms, a clip of training "
            f"{1000 * step:.0f} ms, forward and backward. Decoding is "
            f"**{decoding / (decoding + spectra + step):.1%}** of that.",
        ]
    )


def spanish(folder: Path, sizes: Sizes) -> str:
    """Score the model that knows English alone on Spanish, as it is and tuned."""
    return "\n\n".join(
        [
            f"{about(sizes, *SPANISH)}: numbers, digits and dates that prompts of a telephone exchange say, joined by "
            "the exchange's own rules; transcripts follow from the prompts' names, nobody wrote them down from "
            "listening. The model was made for English, so its English normaliser is what the scores name.",
            *scored(folder, sizes, *SPANISH),
        ]
    )


def capped(sizes: Sizes) -> list[str]:
    """Return the override that keeps to so many clips."""
    return sizes.cap or [f"data.max_rows={ROWS}"]


def about(sizes: Sizes, *overrides: str) -> str:
    """Return which model learns which clips."""
    settings = catalog.read_config(CONFIG, [*overrides, *capped(sizes)])
    return f"`{settings.model}` on {settings.data.max_rows:,} clips of `{settings.data.source}`"


def scored(folder: Path, sizes: Sizes, *overrides: str) -> list[str]:
    """Return the scores of the model as it is and tuned, and how long the test clips took."""
    before = train(folder / "before", CONFIG, *overrides, "method.name=zero_shot", *capped(sizes))
    after = train(folder / "after", CONFIG, *overrides, *capped(sizes))
    rows: Table = [("", *(f"`{name}`" for name in SCORES))]
    rows += [(name, *scores(run)) for name, run in (("as it is", before), ("tuned", after))]
    result = after.result()
    baseline = result["baseline"]
    return [
        table(rows),
        f"{result['test']['n']:,} test clips, heard in the 30 s that strangers show the model. Baseline "
        f"({baseline['name']}): WER {baseline['metrics']['wer']['value']:.3f}. Training took "
        f"{1 / result['cost']['examples_per_second']:.2f} s a clip.",
    ]


def scores(run: Run) -> list[str]:
    """Return a run's scores with their intervals."""
    found: dict[str, Any] = run.result()["test"]["metrics"]
    return ["{value:.3f} ({low:.3f} to {high:.3f})".format(**found[name]) for name in SCORES]


def reading(sizes: Sizes) -> tuple[float, float, float, float]:
    """Return the processor's seconds for a clip: decoded and resampled, its spectrum, a step; and its length."""
    words = [f"train.max_steps={STEPS}", "train.eval_strategy=no", "train.save_strategy=no", "speed.tune=false"]
    settings = catalog.read_config(CONFIG, [*words, *capped(sizes)])
    task = catalog.task(settings.task)
    processor = loading.load_processor(settings, task)
    rows = data.load(settings.data, task, settings.seed).splits["train"]["audio"][:TIMED]
    rate = ear_of(processor).sampling_rate
    began = time.process_time()
    sounds = [AUDIO.opened(row, settings.data) for row in rows]
    waveforms = [sound.at(rate) for sound in sounds]
    decoded = time.process_time()
    hear(processor, waveforms)
    ended = time.process_time()
    seconds = sum(sound.seconds for sound in sounds)
    clock = Clock(WARM)
    with tempfile.TemporaryDirectory() as place, Interruption() as interruption:
        scene = training.set_scene(settings, Run.create(settings, Path(place) / "run"), interruption, resume=False)
        adapted = scene.method.apply(scene.loaded, settings.method)
        trainer.descend(scene.setup, adapted, scene.method.learning_rate, callbacks=[clock])
    clips = (STEPS - WARM) * int(settings.train.options["per_device_train_batch_size"])
    return (decoded - began) / len(rows), (ended - decoded) / len(rows), clock.cpu / clips, seconds / len(rows)
