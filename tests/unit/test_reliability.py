"""The tries of docs/reliability.md: they add up, one seed counts once, and the page is what is kept of them."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import report
from tests.chaos.report import Tries


def tried(*kinds: str, broke: str = "") -> Tries:
    found = Tries(say=False)
    for kind in kinds:
        found.add(kind)
    if broke:
        found.broke("hub", broke, Path())
    return found


def test_runs_add_up_and_a_seed_counts_once(tmp_path: Path) -> None:
    path, page = tmp_path / "tries.json", tmp_path / "page.md"
    assert report.free_seed(report.read(path)) == 1
    first = report.entry(tried("engine: SIGKILL", "hub: 503"), 1.0, 4, None)
    report.keep(first, page, path)
    report.keep(report.entry(tried("hub: 503", "hub: 503", broke="a\nloss"), 2.0, 5, "hub"), page, path)
    report.keep(first, page, path)
    kept = report.read(path)
    assert [run["seed"] for run in kept["tries"]] == [5, 4] and report.free_seed(kept) == 6
    assert "| hub: 503 | 3 |" in page.read_text() and "* hub, seed 5: a loss" in page.read_text()
    report.keep(report.entry(tried("hub: 503"), 2.0, 5, "hub"), page, path)
    text = page.read_text()
    assert "| hub: 503 | 2 |" in text and "Nothing." in text, "a seed that was mended stands in its own place"
    load = {"command": "x", "date": "2026-01-01", "machine": "m", "rows": [["looks", "1"]]}
    report.keep({"load": load}, page, path)
    assert "| looks | 1 |" in page.read_text() and len(report.read(path)["tries"]) == 2
    assert [*tmp_path.glob("*.lock")] == []


def test_the_page_is_of_what_is_kept() -> None:
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    assert page.read_text(encoding="utf-8") == report.page(report.read())
