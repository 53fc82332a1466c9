"""The power law is found again, its promise covers the truth, and a run of it says what it did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hftransfer import train
from hftransfer.errors import UserError
from hftransfer.frozen import learning_curve
from hftransfer.frozen.learning_curve import extrapolate, power_law
from tests import tiny
from tests.engine.test_ranking import config_of, last_event

SIZES = np.array([80, 160, 320, 640, 1120, 1600.0])


@pytest.mark.parametrize("law", [(0.1, 2.0, 0.5), (0.0, 1.0, 0.2), (0.2, 5.0, 1.0)])
def test_an_exact_power_law_is_found_again(law: tuple[float, float, float]) -> None:
    floor, size, exponent = law
    found = [float(part[0]) for part in power_law(SIZES, (floor + size * SIZES**-exponent)[None])]
    assert found == pytest.approx(law, abs=1e-6)


def test_nothing_is_below_zero() -> None:
    rising = np.array([0.2, 0.21, 0.22, 0.23, 0.24, 0.25])
    falling = np.array([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    floor, size, exponent = power_law(SIZES, np.stack([rising, falling]))
    assert (floor >= 0).all() and (size >= 0).all() and size[0] == 0 and floor[0] == pytest.approx(rising.mean())
    assert size[1] > 0 and (exponent >= learning_curve.EXPONENTS[0]).all()


def test_the_interval_of_what_doubling_adds_covers_the_truth() -> None:
    """60 data sets of 2000 rows that are answered right with a probability on a power law; rows are kept in pairs."""
    rows, floor, size, exponent = 2000, 0.15, 1.2, 0.45
    truth = size * rows**-exponent * (1 - 2.0**-exponent)
    error = floor + size * SIZES**-exponent
    covered, widths = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        luck = rng.random(rows)  # of each row, the same at every size
        draws = []
        for _ in range(3):
            right = luck + 0.1 * rng.normal(size=(len(SIZES), rows)) > error[:, None]
            counts = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=150)
            draws.append(np.concatenate([right.mean(axis=1)[:, None], right @ counts.T / rows], axis=1))
        found = np.stack(draws)
        curve = extrapolate(SIZES, found[:, :, 0], found[:, :, 1:], "accuracy", rows, 0.95, seed)
        covered += curve.doubled["low"] <= truth <= curve.doubled["high"]
        widths.append(curve.doubled["high"] - curve.doubled["low"])
    assert covered / 60 >= 0.9 and np.median(widths) < 6 * truth


def test_the_verdict_in_words() -> None:
    points = (1 - (0.1 + 2 * SIZES**-0.5))[None]
    curve = extrapolate(SIZES, points, np.repeat(points[:, :, None], 5, axis=2), "accuracy", 2000, 0.95, 0)
    assert curve.now == pytest.approx(0.9 - 2 / 2000**0.5)
    assert curve.verdict() == (
        "doubling your labels (2,000 to 4,000 rows) would add about 1.3 points of accuracy (1.3 to 1.3)"
    )
    flat = np.full_like(points, 0.7)
    curve = extrapolate(SIZES, flat, np.repeat(flat[:, :, None], 5, axis=2), "accuracy", 2000, 0.95, 0)
    assert curve.verdict().endswith("0.0 points of accuracy (0.0 to 0.0); that it helps is not shown")
    errors = (1 + 20 / SIZES)[None]
    curve = extrapolate(SIZES, errors, np.repeat(errors[:, :, None], 5, axis=2), "rmse", 2000, 0.95, 0)
    assert "would take away about 0.005 of rmse" in curve.verdict()


def test_a_curve_of_real_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, model = tiny.text_csv(tmp_path / "rows.csv", 400), tiny.text_model(tmp_path / "bert")
    path = config_of(tmp_path / "c.yaml", "text-classification", model, source)
    assert train.main(["--config", str(path), "--curve"]) == 0
    found = last_event(capsys.readouterr().out)
    folder = Path(found["folder"])
    assert folder.parent == Path("runs").absolute() and folder.name.endswith("-curve")
    assert json.loads((folder / "curve.json").read_text())["verdict"] == found["verdict"]
    assert (folder / "curve.png").is_file()
    assert found["type"] == "curve" and [point["rows"] for point in found["points"]] == [11, 22, 45, 90, 157, 224]
    values = [point["value"] for point in found["points"]]
    assert values[-1] > values[0] + 0.05 and found["rows"] == 280
    assert found["doubled"]["low"] <= found["doubled"]["value"] <= found["doubled"]["high"]
    assert all(point["low"] <= point["value"] <= point["high"] for point in found["points"])


def test_the_chart_and_the_figures_behind_it(tmp_path: Path, sharp_pictures: None) -> None:
    rng = np.random.default_rng(0)
    points = 1 - (0.1 + 2 * SIZES**-0.5)
    draws = points[None, :, None] + 0.01 * rng.normal(size=(3, len(SIZES), 60))
    curve = extrapolate(SIZES, np.tile(points, (3, 1)), draws, "accuracy", 2000, 0.9, 0)
    learning_curve.write(curve.to_dict(), tmp_path / "new")
    found = json.loads((tmp_path / "new" / "curve.json").read_text())
    fit = found["fit"]
    assert (fit[0]["rows"], fit[-1]["rows"]) == (80, 4000) and found["confidence"] == 0.9
    for one in fit:
        assert one["value"] == pytest.approx(0.9 - 2 * one["rows"] ** -0.5, abs=1e-6)
        assert one["low"] < one["value"] < one["high"]
    with Image.open(tmp_path / "new" / "curve.png") as picture:
        colors = {pixel for _, pixel in picture.convert("RGB").getcolors(1 << 20)}
        assert picture.width > 900 and any(r > 200 and 130 < g < 190 and b < 90 for r, g, b in colors)  # today's rows
    with pytest.raises(UserError, match="a folder to write to is needed"):
        learning_curve.write(curve.to_dict(), tmp_path / "new" / "curve.json")


def test_a_law_that_misses_says_so() -> None:
    points = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.9])[None]  # no power law
    curve = extrapolate(SIZES, points, np.repeat(points[:, :, None], 5, axis=2), "accuracy", 2000, 0.95, 0)
    assert curve.verdict().endswith("the power law misses the score of the most rows, so this says little")


def test_too_few_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, model = tiny.text_csv(tmp_path / "rows.csv", 60), tiny.text_model(tmp_path / "bert")
    path = config_of(tmp_path / "c.yaml", "text-classification", model, source)
    assert train.main(["--config", str(path), "--curve"]) == 2
    assert "needs at least 62 rows in train; there are 42" in capsys.readouterr().err
