"""The part of Publish with the card: its text as it is written or as somebody edits it, and how it will look."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer.card import report
from hftransfer.errors import UserError
from hftransfer.runs import Run, write_text
from hftransfer.ui import markup, visitors
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

FILE = "card.md"  # in a run's folder: the text that somebody wrote in place of the one that is made
LONGEST = 200_000  # characters of it
FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
PICTURE = re.compile(r"(!\[[^\]]*\])\(([\w/-]+\.png)\)")


def build(page: Page) -> tuple[list[Any], Callable[[Any, Any], None]]:
    """Lay out the part; return what `opened` writes to, and what wires the part to a repo's name and a licence."""
    with gr.Accordion("The card as it will look", open=True, elem_classes="fold"):
        shown = gr.Markdown(elem_id="card", elem_classes="model-card")
    with gr.Accordion("Edit its text", open=False, elem_classes="fold"):
        text = gr.Textbox(label="Text of the card, as Markdown", lines=14, max_lines=30, elem_id="card-text",
                          info="What you write is kept with the run, and published below the metadata")  # fmt: skip
        said = html(elem_id="card-said")
        anew = gr.Button("Take the text that is made again", size="sm", elem_classes="narrow", elem_id="card-anew")

    def wire(repo: Any, licence: Any) -> None:
        page.on(text.blur, partial(keep, page), [page.run, text, repo, licence], [shown, said])
        page.on(anew.click, partial(forget, page), [page.run, repo, licence], [shown, text, said])

    return [shown, text, said], wire


def opened(run: Run, result: Mapping[str, Any], repo: str, licence: str) -> list[Any]:
    """Return (the card as it will look, its text, what is said) for a run."""
    text = text_of(run, result, repo, licence)
    return [looks(text, run), text, _said(run)]


def keep(page: Page, visitor: Visitor, name: str | None, text: str, repo: str, licence: str) -> list[Any]:
    """Keep the text that somebody wrote, and show how it will look; the text that is made anyway is not kept."""
    visitors.require(visitor)
    run = visitors.find(visitor, name or "")
    if len(text or "") > LONGEST:
        raise UserError(f"a card of at most {LONGEST:,} characters", f"found {len(text):,}", "Shorten it.")
    if not (text or "").strip() or text.strip() == made(run, page.monitor.result(run.folder), repo, licence).strip():
        (run.folder / FILE).unlink(missing_ok=True)
    else:
        write_text(run.folder / FILE, text)
    return [looks(text or "", run), _said(run)]


def forget(page: Page, visitor: Visitor, name: str | None, repo: str, licence: str) -> list[Any]:
    """Throw away what somebody wrote: the text that is made stands there again."""
    visitors.require(visitor)
    run = visitors.find(visitor, name or "")
    (run.folder / FILE).unlink(missing_ok=True)
    return opened(run, page.monitor.result(run.folder), repo, licence)


def written(run: Run) -> Path | None:
    """Return the file of the text that somebody wrote; None where the card stands as it is made."""
    path = run.folder / FILE
    return path if path.is_file() and not path.is_symlink() else None


def text_of(run: Run, result: Mapping[str, Any], repo: str, licence: str) -> str:
    """Return the card's text: what somebody wrote, else what is made."""
    path = written(run)
    return made(run, result, repo, licence) if path is None else path.read_text(encoding="utf-8", errors="replace")


def made(run: Run, result: Mapping[str, Any], repo: str, licence: str) -> str:
    """Return the card's text as it is made, without its metadata: those are a table on the Hub."""
    return FRONT.sub("", report.render(result, run.config(), repo=repo or None, license=licence or None)).lstrip()


def looks(text: str, run: Run) -> str:
    """Return a card's text with its pictures within it: nothing but the page is served."""
    return PICTURE.sub(lambda found: _inlined(found, run.artifact), text)


def _inlined(found: re.Match[str], folder: Path) -> str:
    path = folder / found[2]
    if path.is_symlink() or not path.is_file():
        return ""
    return f"{found[1]}(data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"


def _said(run: Run) -> str:
    return markup.small(say("This is your own text of the card.")) if written(run) else ""
