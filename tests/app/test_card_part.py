"""The card at Publish: its text can be edited, is kept with the run, and is what is published below the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from hftransfer.errors import UserError
from hftransfer.hub import cards, publishing
from hftransfer.ui import card_part, publish_step, reporting, runs_part, saying
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.page import Page
from tests.app.conftest import Finished


@pytest.fixture
def page(finished: Finished) -> Page:
    return Page(finished.settings, cast(Any, None), cast(Any, None), Monitor())


def test_what_somebody_writes_is_kept_shown_and_published(page: Page, finished: Finished) -> None:
    visitor, run = finished.visitor, finished.run
    _, there, repo, _, looks, text, said = publish_step.offer(page, visitor, run.name, "alice/films", "mit")
    assert there["visible"] and repo == "alice/films" and text.startswith("#") and said == ""
    assert "alice/films" in text and "license:" not in text and "data:image/png" in looks

    mine = text.replace("# ", "# My own ", 1) + "\nNot for medical use.\n"
    looks, said = card_part.keep(page, visitor, run.name, mine, "alice/films", "mit")
    assert "My own" in looks and "your own" in said
    assert publish_step.offer(page, visitor, run.name, "alice/other", "")[5] == mine  # another name changes nothing
    card = publishing.contents(run, "alice/films", "mit", card_part.written(run))["README.md"]
    assert isinstance(card, bytes)
    front, _, body = card.decode().partition("\n---\n")
    assert "license: mit" in front and body.strip() == mine.strip()

    looks, text, said = card_part.forget(page, visitor, run.name, "alice/films", "mit")
    assert "My own" not in text + looks and said == "" and card_part.written(run) is None
    card_part.keep(page, visitor, run.name, text, "alice/films", "mit")  # what is made anyway is nobody's own
    assert card_part.written(run) is None
    with pytest.raises(UserError, match="at most"):
        card_part.keep(page, visitor, run.name, "x" * (card_part.LONGEST + 1), "alice/films", "mit")


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
