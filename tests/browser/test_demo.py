"""The page of a static Space in Chromium: the model answers in the browser, with transformers.js as npm has it."""

from __future__ import annotations

import json
import mimetypes
import shutil
from pathlib import Path
from typing import Any

import pytest

from hftransfer import artifact
from hftransfer.errors import UserError
from hftransfer.hub import demo
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests.engine.trained import trained, tree

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow
PACKAGES = Path(__file__).parents[1] / "node" / "node_modules"
WHY_NOT = "no transformers.js: npm install --no-package-lock --ignore-scripts --prefix tests/node"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from hftransfer.export import onnx

    folder = tmp_path_factory.mktemp("demo")
    found = trained(folder, "run", tree(folder))
    with pytest.raises(UserError, match="hftransfer export"):
        demo.require(found)
    onnx.export(found)
    return found


def deliver(route: Any, run: Run, page: str) -> None:
    """Answer what the page asks for: itself, the packages, and the model's files; nothing else is there."""
    host, _, path = route.request.url.removeprefix("https://").partition("/")
    path = path.partition("?")[0]
    if host == "demo.test":
        route.fulfill(body=page, content_type="text/html; charset=utf-8")
        return
    if host == "cdn.jsdelivr.net" and path == f"npm/@huggingface/transformers@{demo.VERSION}":
        file = PACKAGES / "@huggingface" / "transformers" / "dist" / "transformers.min.js"
    elif host == "cdn.jsdelivr.net" and path.startswith("npm/onnxruntime-web@"):
        file = PACKAGES / "onnxruntime-web" / "dist" / path.rpartition("/")[2]
    else:
        file = run.artifact / path.partition("/resolve/main/")[2]
    kind = "text/javascript" if file.suffix in (".js", ".mjs") else mimetypes.guess_type(file.name)[0]
    headers = {"access-control-allow-origin": "*", "content-type": kind or "application/octet-stream"}
    if host in ("cdn.jsdelivr.net", "huggingface.co") and file.is_file():
        route.fulfill(body=file.read_bytes(), headers=headers)
    else:
        route.fulfill(status=404, headers=headers)


@pytest.mark.skipif(not (PACKAGES / "@huggingface" / "transformers").is_dir(), reason=WHY_NOT)
def test_the_model_answers_in_the_browser(chromium: Any, run: Run) -> None:
    page = demo.page(run, "me/mine")
    context = chromium.new_context()
    context.set_default_timeout(120_000)
    window, complaints = context.new_page(), []
    window.on("pageerror", lambda error: complaints.append(str(error)))
    window.route("**/*", lambda route: deliver(route, run, page))
    window.goto("https://demo.test/")
    window.get_by_role("status").filter(has_text="Ready.").wait_for()
    text = "the film was good"
    window.get_by_label("text").fill(text)
    window.get_by_role("button", name="Ask").click()
    window.get_by_role("status").filter(has_text="Answered in").wait_for()
    rows = window.locator("#answer .row").all_inner_texts()
    assert not complaints
    shown = {name: float(score) for name, score in (row.split() for row in rows)}
    predictor = Predictor(run.artifact)
    wanted = predictor.answered.names[int(predictor.ask([{"text": text}])[0].argmax())]
    assert max(shown, key=shown.__getitem__) == wanted
    context.close()


def test_names_are_no_html(run: Run) -> None:
    page = demo.page(run, "me/<script>alert(1)</script>")
    assert "<script>alert" not in page and "me/&lt;script&gt;" in page and "\\u003cscript>" in page


def test_a_task_without_a_pipeline_is_refused(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.folder, tmp_path / "copy")))
    text = copy.config_path.read_text()
    copy.config_path.write_text(text.replace("task: text-classification", "task: translation"))
    assert artifact.onnx_of(copy.artifact)
    with pytest.raises(UserError, match="can be asked is needed for a demo"):
        demo.require(copy)


def test_the_page_says_from_which_score_a_label_is_given(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.folder, tmp_path / "copy")))
    assert '"points": []' in demo.page(copy, "me/mine")
    result = json.loads(copy.result_path.read_text())
    result["operating"] = {"points": [{"label": "yes", "threshold": 0.3125}, {"label": "no", "threshold": None}]}
    copy.result_path.write_text(json.dumps(result))
    assert '"points": [["yes", 0.3125]]' in demo.page(copy, "me/mine")
