"""All runs: favourites first, one deleted and had back, lines of code, and a report that stands alone."""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.launchers import launcher
from hftransfer.ui import api, asking, deleting, reporting, snippets, train_step
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.app.test_adding import finished_run


def test_a_deleted_run_comes_back_until_the_next_one_goes(alice: Visitor, bob: Visitor, space: Settings) -> None:
    queue = Queue(space, launcher("local"))
    names = [finished_run(alice, name).name for name in ("one", "two")]
    deleting.remove(queue, alice, "one")
    assert [run.name for run in queue.runs(alice)] == ["two"] and deleting.last(alice) == "one"
    assert deleting.last(bob) is None
    with pytest.raises(UserError, match="to bring back"):
        deleting.restore(bob)
    assert deleting.restore(alice) == "one" and deleting.last(alice) is None
    assert sorted(run.name for run in queue.runs(alice)) == names
    for name in names:
        deleting.remove(queue, alice, name)
    assert deleting.last(alice) == "two" and not queue.runs(alice)
    with pytest.raises(UserError):
        deleting.remove(queue, alice, "one")
    assert deleting.last(alice) == "two"


def test_favourites_stand_first(alice: Visitor, space: Settings) -> None:
    queue = Queue(space, launcher("local"))
    runs = [finished_run(alice, name) for name in ("one", "two")]
    queue.entitle(alice, runs[0], "the best", "", favourite=True)
    entries = [(run, "done", run.status()) for run in reversed(runs)]
    assert [name for _, name in train_step.choices_of(entries)] == ["one", "two"]
    assert train_step.choices_of(entries)[0][0].startswith(train_step.STAR)
    queue.entitle(alice, runs[0], "renamed", "a note")  # the rest stays as it was
    assert runs[0].noted() == {"name": "renamed", "note": "a note", "favourite": True}


def test_lines_of_code_name_the_run(alice: Visitor) -> None:
    found = snippets.of(finished_run(alice, "one"))
    assert set(found) == {"Python", "JavaScript", "curl"}
    compile(found["Python"], "snippet", "exec")
    assert '"one"' in found["JavaScript"] and '["one", ["a text"], 5]' in found["curl"]


@pytest.mark.parametrize("name", catalog.tasks())
def test_the_input_of_the_lines_is_one_that_the_task_takes(
    name: str, tmp_path: Path, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python gives it, and as programs send it to the app: a file as a data: URL."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("photo.jpg")
    soundfile.write("recording.wav", np.sin(np.arange(8000) / 10), 16_000)
    task = catalog.task(name)
    row = task.row(ast.literal_eval(snippets.example(task)))
    needed = {role.name for role in task.shown if role.required}
    assert needed == set(row)

    def encoded(file: str, head: str) -> str:
        return json.dumps(head + base64.b64encode(Path(file).read_bytes()).decode())

    value = json.loads(snippets.sent(task, json.dumps, encoded))
    assert api._is_input(value)
    with api._as_inputs([value]) as (given,):
        part = given if isinstance(given, dict) else {asking.PLAIN: given}
        assert set(task.row(asking.by_role(part, task))) == needed


def test_the_lines_ask_where_the_app_is(
    alice: Visitor, space: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    laptop = Settings.read({"HFTRANSFER_ROOT": str(tmp_path)})
    here: Any = SimpleNamespace(settings=laptop, blocks=SimpleNamespace(local_url="http://127.0.0.1:7861/"))
    there: Any = SimpleNamespace(settings=space, blocks=SimpleNamespace(local_url="http://localhost:7860/"))
    monkeypatch.setenv("SPACE_HOST", "owner-space.hf.space")
    assert snippets.address(here) == "http://127.0.0.1:7861"
    assert snippets.address(there) == "https://owner-space.hf.space"
    assert snippets.address(SimpleNamespace(settings=laptop, blocks=None)) == snippets.USUAL  # type: ignore[arg-type]
    run = finished_run(alice, "one")
    mine, strange = snippets.shown(run, here), snippets.shown(run, there)
    assert "127.0.0.1:7861" in mine and "HF_TOKEN" not in mine
    assert "https://owner-space.hf.space/gradio_api/call/predict" in strange and "127.0.0.1" not in strange
    found = snippets.of(run, snippets.address(there), signed=True)
    assert found["curl"].count('-H "Authorization: Bearer $HF_TOKEN"') == 2
    assert "{ token: process.env.HF_TOKEN }" in found["JavaScript"]


@pytest.mark.parametrize("name", catalog.tasks())
def test_the_lines_for_a_shell_send_json(name: str, tmp_path: Path) -> None:
    """Run in a shell whose `curl` writes down what it is given."""
    (tmp_path / "photo.jpg").write_bytes(b"a picture")
    (tmp_path / "recording.wav").write_bytes(b"a recording")
    lines = snippets._shell(catalog.task(name), "50%-one", snippets.USUAL, signed=True)
    said = """curl() { for last; do :; done; if [ "$last" = @- ]; then cat; else printf %s "$last"; fi >> sent; }\n"""
    subprocess.run(["bash", "-c", said + lines], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]})
    (where, inputs, top), _ = json.JSONDecoder().raw_decode((tmp_path / "sent").read_text(), 9)
    assert (where, len(inputs), top) == ("50%-one", 1, 5) and api._is_input(inputs[0])
    for kind, content in (("image/jpeg", b"a picture"), ("audio/wav", b"a recording")):
        if str(inputs[0]).startswith(f"data:{kind}"):
            assert base64.b64decode(inputs[0].partition(",")[2]) == content


def test_a_report_needs_nothing_beside_it() -> None:
    found = reporting.document("<b>mine", "tried <i>twice", ["<details><summary>all</summary>x</details>", ""])
    assert "&lt;b&gt;mine" in found and "&lt;i&gt;twice" in found and "<details open>" in found
    assert "src=" not in found and "http" not in found.replace("http://www.w3.org", "") and "@media print" in found
    assert Path(reporting.__file__).with_name("report.css").is_file()
