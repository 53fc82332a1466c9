"""A run whose probe is ready can be ended for it: a run of that probe alone, on the same rows, begins."""

from __future__ import annotations

from typing import Any

import pytest

from hftransfer.errors import UserError
from hftransfer.launchers import launcher
from hftransfer.ui import train_step
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.app.test_adding import finished_run


def test_the_first_model_is_a_run_of_its_own(alice: Visitor, space: Settings) -> None:
    class Page:
        queue, monitor, settings = Queue(space, launcher("local")), Monitor(), space

    page: Any = Page()
    run = finished_run(alice, "one")
    with pytest.raises(UserError, match="none yet"):
        train_step.first_model(page, alice, "one")
    run.event("probed", metrics={"accuracy": 0.9}, seconds=1.0)
    shown, _ = train_step.first_model(page, alice, "one")
    new = next(found for found in page.queue.runs(alice) if found.name == shown["value"])
    assert new.config().method.name == "probe" and new.noted()["follows"] == "one"
    assert new.config().data.source == str(alice.uploads / "rows.csv") and page.queue.place(new) == 1
