"""The card at Publish: its text can be edited, is kept with the run, and is what is published below the metadata."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from hftransfer.errors import UserError
from hftransfer.hub import cards, publishing
from hftransfer.runs import Run
from hftransfer.ui import card_part, publish_step, reporting, runs_part, saying
from hftransfer.ui.monitor import Monitor, View
from hftransfer.ui.page import Page
from tests.app.conftest import Finished


@pytest.fixture
def page(finished: Finished) -> Page:
    return Page(finished.settings, cast(Any, None), cast(Any, None), Monitor())


def test_what_somebody_writes_is_kept_shown_and_published(page: Page, finished: Finished) -> None:
    visitor, run = finished.visitor, finished.run
    _, there, repo, _, looks, text, said, was = publish_step.offer(page, visitor, run.name, "alice/films", "mit")
    assert there["visible"] and repo == "alice/films" and text.startswith("#") and said == ""
    assert "alice/films" in text and "license:" not in text and "data:image/png" in looks

    mine = text.replace("# ", "# My own ", 1) + "\nNot for medical use.\n"
    looks, said, was = card_part.keep(page, visitor, run.name, mine, was, "alice/films", "mit")
    assert "My own" in looks and "your own" in said
    assert publish_step.offer(page, visitor, run.name, "alice/other", "")[5] == mine  # another name changes nothing
    card = publishing.contents(run, "alice/films", "mit", card_part.written(run))["README.md"]
    assert isinstance(card, bytes)
    front, _, body = card.decode().partition("\n---\n")
    assert "license: mit" in front and body.strip() == mine.strip()

    looks, text, said, _ = card_part.forget(page, visitor, run.name, "alice/films", "mit")
    assert "My own" not in text + looks and said == "" and card_part.written(run) is None
    card_part.keep(page, visitor, run.name, text, was, "alice/films", "mit")  # what is made anyway is nobody's own
    assert card_part.written(run) is None
    with pytest.raises(UserError, match="at most"):
        card_part.keep(page, visitor, run.name, "x" * (card_part.LONGEST + 1), was, "alice/films", "mit")


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what is handed to a push, in place of one."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(publish_step, "start", lambda settings, visitor, run, *words: found.append(words))
    return found


def test_a_text_goes_out_as_it_stands_at_the_click(page: Page, finished: Finished, pushed: list[Any]) -> None:
    visitor, run = finished.visitor, finished.run
    *_, text, _, was = publish_step.offer(page, visitor, run.name, "alice/films", "")
    publish_step.publish(page, visitor, run.name, "alice/films", "", True, False, True, text + "Mine.\n", was)
    path = card_part.written(run)
    assert len(pushed) == 1 and path is not None and path.read_text(encoding="utf-8").endswith("Mine.\n")
    *_, was = card_part.keep(page, visitor, run.name, text + "Mine.\n", was, "alice/films", "")
    card_part.keep(page, visitor, run.name, text, was, "alice/films", "")  # changed back by hand
    assert card_part.written(run) is None


def test_a_text_that_nobody_changed_is_nobodys_own(page: Page, finished: Finished, pushed: list[Any]) -> None:
    """Whoever leaves the name for the text, or for the button, sends the text that was made for the name before."""
    visitor, run = finished.visitor, finished.run
    *_, old, _, was = publish_step.offer(page, visitor, run.name, "alice/films", "")
    card_part.keep(page, visitor, run.name, old, was, "alice/other", "")
    assert card_part.written(run) is None
    *_, new, _, was = publish_step.offer(page, visitor, run.name, "alice/other", "", was)
    assert new != old
    publish_step.publish(page, visitor, run.name, "alice/other", "", True, False, True, old, was)
    assert card_part.written(run) is None and len(pushed) == 1


def test_a_text_whose_code_names_another_repo_is_pointed_out(
    page: Page, finished: Finished, pushed: list[Any]
) -> None:
    visitor, run = finished.visitor, finished.run
    *_, text, _, was = publish_step.offer(page, visitor, run.name, "alice/films", "")
    mine = text + "Mine.\n"
    assert card_part.CODE in mine
    _, said, was = card_part.keep(page, visitor, run.name, mine, was, "alice/films", "")
    assert "does not name" not in said
    shown, _ = publish_step.publish(page, visitor, run.name, "alice/other", "", True, False, True, mine, was)
    assert "does not name alice/other" in shown
    view = View(run.folder)
    view.fold({"type": "published", "time": 1.0, "repo": "alice/other", "url": "https://hub/alice/other"})
    assert "does not name alice/other" in publish_step.progress_of(view)
    with saying.spoken("zh"):
        assert "没有提到 alice/other" in publish_step.offer(page, visitor, run.name, "alice/other", "", was)[6]
    card_part.forget(page, visitor, run.name, "alice/films", "")
    assert "does not name" not in publish_step.progress_of(view)


def test_a_card_shows_the_pictures_of_its_run_and_no_others(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    (run.artifact / "plots").mkdir(parents=True)
    for path in (run.artifact / "plots" / "a.png", tmp_path / "secret.png"):
        path.write_bytes(b"picture")
    (run.artifact / "linked").symlink_to(tmp_path)
    (run.artifact / "link.png").symlink_to(tmp_path / "secret.png")
    (run.artifact / "large.png").write_bytes(bytes(card_part.PICTURE_BYTES + 1))
    picture = "![A chart](plots/a.png)"
    assert card_part.looks(picture, run).startswith("![A chart](data:image/png;base64,")
    for other in (
        "linked/secret.png",
        "link.png",
        "large.png",
        "none.png",
        "../../secret.png",
        f"{tmp_path}/secret.png",
    ):
        assert "base64" not in card_part.looks(f"![x]({other})", run), other
    assert card_part.looks(picture * 100, run).count("base64") == card_part.PICTURES
    hostile = "![" * (card_part.LONGEST // 2)
    began = time.perf_counter()
    assert card_part.looks(hostile, run) == hostile
    assert time.perf_counter() - began < 5
    (run.folder / card_part.FILE).write_text("x" * (card_part.LONGEST + 9))
    assert len(card_part.text_of(run, {}, "", "")) == card_part.LONGEST


def test_the_page_keeps_one_first_heading(tmp_path: Path) -> None:
    text = "# A model\n\n## Use\n\n```python\n# ask it\n```\n\n###### Least\n#hashtag"
    shown = card_part.looks(text, Run(tmp_path))
    assert shown == "### A model\n\n#### Use\n\n```python\n# ask it\n```\n\n###### Least\n#hashtag"


def test_a_card_is_a_text(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("---\ntags: [x]\n---\n\nMine.\n")
    assert (
        cards.with_body("---\nlicense: mit\n---\n\nOurs.\n", cards.body_in(card))
        == "---\nlicense: mit\n---\n\nMine.\n"
    )
    for content in (b" \n", b"\xff\xfe\x00"):
        card.write_bytes(content)
        with pytest.raises(UserError, match="file of Markdown"):
            cards.body_in(card)


def test_a_report_prints_and_a_link_leads_to_a_run(page: Page, finished: Finished) -> None:
    written = Path(reporting.write(page, finished.visitor, finished.run.name)).read_text(encoding="utf-8")
    assert 'onclick="print()"' in written and "@media print" in written and "<details open" in written
    link = runs_part.link_of(page, "a run&more")
    assert 'href="?run=a%20run%26more#result"' in link and "nobody else sees" in link
    with saying.spoken("zh"):
        chinese = Path(reporting.write(page, finished.visitor, finished.run.name)).read_text(encoding="utf-8")
    assert 'lang="zh-CN"' in chinese and "打印或存为 PDF" in chinese
