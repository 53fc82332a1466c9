"""Rows without labels: those a model is least sure of are proposed first, and added with what somebody says."""

from __future__ import annotations

from typing import Any

from hftransfer import views
from hftransfer.ui import adding, doubtful
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.app.test_adding import finished_run


def answered(text: str, sure: float) -> dict[str, Any]:
    view = views.Ranked((("positive", sure), ("negative", 1 - sure)), ("positive",))
    return {"input": text, "view": views.to_dict(view)}


def test_the_least_sure_rows_come_first_and_are_added(alice: Visitor, space: Settings) -> None:
    rows = doubtful.proposed([answered("clear", 0.99), answered("<i>unclear", 0.51), answered("so so", 0.7)], ["text"])
    assert [row["value"]["text"] for row in rows] == ["<i>unclear", "so so", "clear"]
    prose = {"input": "a text", "view": views.to_dict(views.Prose("an answer"))}
    assert doubtful.proposed([prose], ["text"]) == []

    class Page:
        settings = space

    run, page = finished_run(alice, "one"), Page()
    _, box, shown, label = doubtful.drawn(alice, "one", rows)
    assert box["visible"] and "&lt;i&gt;unclear" in shown and "51% sure" in shown and label["value"] == "positive"
    left, *_ = doubtful.kept(page, alice, "one", rows, "negative")  # type: ignore[arg-type]
    assert [row["value"]["text"] for row in left] == ["so so", "clear"]
    assert adding.rows_of(adding.place_of(alice, run)) == [{"label": "negative", "text": "<i>unclear"}]
    assert not doubtful.drawn(alice, "one", [])[1]["visible"]
