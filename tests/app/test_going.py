"""How a run goes, in words: against the baseline and the probe, flat or gaining, and what is left from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hftransfer.ui import going, saying, watched
from hftransfer.ui.monitor import Monitor, View
from tests.app.test_monitor import STARTED, made


def view(folder: Path, *events: dict[str, Any]) -> View:
    return Monitor().view(made(folder / "run", [*STARTED, *events]).folder)


def curve(name: str, *values: float) -> list[dict[str, Any]]:
    return [
        {"type": "evaluation", "step": 10 * at, "max_steps": 100, "metrics": {"loss": 1.0, name: value}}
        for at, value in enumerate(values, 1)
    ]


TRIVIAL = {"type": "trivial", "name": "majority class", "metrics": {"accuracy": 0.5, "mae": 2.0}}
PROBED = {"type": "probed", "metrics": {"accuracy": 0.7}, "seconds": 3.0}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("accuracy", [0.4, 0.6, 0.65], "above the baseline (0.500) since step 20, not yet above the probe (0.700)."),
        (
            "accuracy",
            [0.6, 0.5, 0.8],
            "above the baseline (0.500) since step 30, above the probe (0.700) since step 30.",
        ),
        ("accuracy", [0.6, 0.7], "above the baseline (0.500) since step 10, level with the probe (0.700)."),
        ("mae", [3.0, 1.5], "below the baseline (2.000) since step 20."),
        ("accuracy", [0.9, 0.8, 0.8, 0.8, 0.8], "flat: nothing better since step 10, whose model is kept."),
        ("accuracy", [0.6, 0.7, 0.75, 0.8, 0.85, 0.9], "still gaining."),
    ],
)
def test_a_sentence_says_how_it_goes(tmp_path: Path, name: str, values: list[float], words: str) -> None:
    assert going.said(view(tmp_path, TRIVIAL, PROBED, *curve(name, *values))).endswith(words)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("accuracy", [], None),
        ("accuracy", [0.2, 0.5, 0.7, 0.9], None),  # steep, yet few points tell nothing of what comes
        ("accuracy", [0.9, 0.8, 0.8, 0.8, 0.8], False),
        ("accuracy", [0.8, 0.8, 0.801, 0.8, 0.8], False),
        ("accuracy", [0.6, 0.7, 0.75, 0.8, 0.85, 0.9], True),
        ("mae", [3.0, 2.5, 2.0, 1.5, 1.0], True),
        ("mae", [1.0, 1.5, 2.0, 2.5, 3.0], False),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_whether_it_gains_is_told_by_the_points(
    tmp_path: Path, name: str, values: list[float], expected: bool | None, language: str
) -> None:
    with saying.spoken(language):
        assert going.gaining(view(tmp_path, TRIVIAL, PROBED, *curve(name, *values))) is expected


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("evaluation", "validation and test rows are being answered"),
        ("intervals", "scores and their intervals are being computed"),
        ("saving", "the model and its card are being written"),
        ("labels", "rows are looked through for wrong labels and copies"),
    ],
)
def test_no_time_is_promised_when_training_is_over(tmp_path: Path, phase: str, words: str) -> None:
    """A catalogue that is encoded and texts that are written take as long as they take."""
    timed = {"type": "log", "step": 5, "max_steps": 10, "eta_seconds": 0.0, "time": 10.0}
    later = view(tmp_path, {"type": "phase", "name": "training"}, timed, {"type": "phase", "name": phase})
    assert going.left(later, {"seconds": 30.0}, [40.0], 20.0) == f"training is over: {words}"


def test_before_the_first_validation_the_probe_is_told(tmp_path: Path) -> None:
    assert going.said(view(tmp_path, TRIVIAL)) == ""
    assert "accuracy 0.700, the baseline 0.500" in going.said(view(tmp_path / "probe", TRIVIAL, PROBED))


def test_what_is_left_is_said_from_the_first_second(tmp_path: Path) -> None:
    early = view(tmp_path, {"type": "phase", "name": "data"})
    assert going.left(early, {}, [], 3.0).startswith("minutes, as a rule")
    assert going.left(early, {"seconds": 120.0}, [], 21.0) == "about 100 s, as it was measured before".replace(
        "100 s", "2 min"
    )
    assert going.left(early, {}, [100.0, 60.0, 61.0], 11.0).startswith("about 51 s: earlier runs")
    assert going.left(early, {}, [5.0], 11.0).startswith("longer than usual")
    timed = {"type": "log", "step": 5, "max_steps": 10, "eta_seconds": 40.0, "time": 10.0}
    trained = view(tmp_path / "later", {"type": "phase", "name": "training"}, timed)
    assert going.left(trained, {}, [], 20.0) == "about 30 s of training"


def test_trials_are_timed_by_their_own_steps(tmp_path: Path) -> None:
    chosen = {"type": "chosen", "settings": [{"name": "updates", "value": 100}]}
    tried = [{"type": "trial", "name": "1e-4", "step": step, "max_steps": 10, "time": 1.0 + step} for step in range(6)]
    found = going.left(view(tmp_path, chosen, *tried), {}, [], 7.0)
    # five steps took five seconds; 35 of four trials and 90 of the fit behind them are left
    assert found == "about 2 min: learning rates are tried, 1 so far"


def test_watched_rows_show_what_changed(tmp_path: Path) -> None:
    def look(step: int, said: str, wrong: bool) -> dict[str, Any]:
        answers = [{"row_id": "train:3", "is": "good", "said": said, "wrong": wrong, "sure": 0.75}]
        return {"type": "watched", "step": step, "answers": answers}

    found = view(tmp_path, look(10, "bad", True), look(20, "bad", True), look(30, "<b>good", False))
    assert [event["step"] for event in found.watched] == [10, 20, 30]
    drawn = watched.shown(found, {"train:3": {"text": {"form": "text", "value": "a fine film"}}})
    assert "a fine film" in drawn and "&lt;b&gt;good" in drawn and "at step 10: bad" in drawn
    assert "1 of 1 right at step 30" in drawn
    assert watched.shown(view(tmp_path / "none"), {}) == ""
