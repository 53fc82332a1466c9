"""The part of Publish with the card: its text as it is written or as somebody edits it, and how it will look."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
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
PICTURE = re.compile(r"(!\[[^\[\]]{0,300}\])\(((?:[\w-]+/)*[\w-]+\.png)\)")
PICTURES = 40  # of a card that are shown; each reference holds its picture whole
PICTURE_BYTES = 2 * 2**20  # of one; the charts of a run have less than a tenth
SHOWN = 3  # texts that a page remembers to have shown: what is sent may stand behind what was shown last by one
CODE = "```"
HEADING = re.compile(r"\A(#{1,6}) ")


def build(page: Page) -> tuple[list[Any], Callable[[Any, Any], None]]:
    """Lay out the part; return what `opened` writes to, and what wires the part to a repo's name and a licence."""
    with gr.Accordion("The card as it will look", open=True, elem_classes="fold"):
        shown = gr.Markdown(elem_id="card", elem_classes="model-card")
    was = gr.State([])
    with gr.Accordion("Edit its text", open=False, elem_classes="fold"):
        text = gr.Textbox(label="Text of the card, as Markdown", lines=14, max_lines=30, elem_id="card-text",
                          info="What you write is kept with the run, and published below the metadata")  # fmt: skip
        said = html(elem_id="card-said")
        anew = gr.Button("Take the text that is made again", size="sm", elem_classes="narrow", elem_id="card-anew")

    def wire(repo: Any, licence: Any) -> None:
        page.on(text.blur, partial(keep, page), [page.run, text, was, repo, licence], [shown, said, was])
        page.on(anew.click, partial(forget, page), [page.run, repo, licence, was], [shown, text, said, was])

    return [shown, text, said, was], wire


def opened(
    run: Run, result: Mapping[str, Any], repo: str, licence: str, was: Sequence[str] = ()
) -> list[Any]:  # fmt: skip
    """Return (the card as it will look, its text, what is said, the texts that were shown) for a run."""
    text = text_of(run, result, repo, licence)
    return [looks(text, run), text, _said(run, repo), _shown(was, text)]


def keep(
    page: Page, visitor: Visitor, name: str | None, text: str, was: Sequence[str], repo: str, licence: str
) -> list[Any]:
    """Keep the text that somebody wrote, and show how it will look; the text that is made anyway is not kept."""
    run = settled(page, visitor, name, text, was, repo, licence)
    return [looks(text or "", run), _said(run, repo), _shown(was, text or "")]


def settled(
    page: Page, visitor: Visitor, name: str | None, text: str, was: Sequence[str], repo: str, licence: str
) -> Run:
    """Keep a text that differs from those that were shown (`was`, the last one last); return the run."""
    visitors.require(visitor)
    run = visitors.find(visitor, name or "")
    if len(text or "") > LONGEST:
        raise UserError(f"a card of at most {LONGEST:,} characters", f"found {len(text):,}", "Shorten it.")
    words = (text or "").strip()
    shown = [one.strip() for one in was]
    if words in shown[-1:] or (words in shown and written(run) is None):
        return run  # nobody changed it
    if not words or words == made(run, page.monitor.result(run.folder), repo, licence).strip():
        (run.folder / FILE).unlink(missing_ok=True)
    else:
        write_text(run.folder / FILE, text)
    return run


def _shown(was: Sequence[str], text: str) -> list[str]:
    return [*was, text][-SHOWN:]


def forget(
    page: Page, visitor: Visitor, name: str | None, repo: str, licence: str, was: Sequence[str] = ()
) -> list[Any]:  # fmt: skip
    """Throw away what somebody wrote: the text that is made stands there again."""
    visitors.require(visitor)
    run = visitors.find(visitor, name or "")
    (run.folder / FILE).unlink(missing_ok=True)
    return opened(run, page.monitor.result(run.folder), repo, licence, was)


def written(run: Run) -> Path | None:
    """Return the file of the text that somebody wrote; None where the card stands as it is made."""
    path = run.folder / FILE
    return path if path.is_file() and not path.is_symlink() else None


def text_of(run: Run, result: Mapping[str, Any], repo: str, licence: str) -> str:
    """Return the card's text: what somebody wrote, else what is made."""
    return made(run, result, repo, licence) if written(run) is None else _own(run)


def _own(run: Run) -> str:
    path = written(run)
    if path is None:
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(LONGEST)


def unnamed(run: Run, repo: str) -> str:
    """Return what is said where somebody's own text of the card has code and does not name the repo it goes to."""
    text = _own(run)
    if not repo or CODE not in text or repo in text:
        return ""
    return say("Your text does not name {repo}: look at its lines of code.", repo=repo)


def made(run: Run, result: Mapping[str, Any], repo: str, licence: str) -> str:
    """Return the card's text as it is made, without its metadata: those are a table on the Hub."""
    return FRONT.sub("", report.render(result, run.config(), repo=repo or None, license=licence or None)).lstrip()


def looks(text: str, run: Run) -> str:
    """Return a card's text with its pictures within it: nothing but the page is served.

    Its headings stand below those of the step: a page has one first heading.
    """
    return PICTURE.sub(lambda found: _inlined(found, run.artifact), _below(text), count=PICTURES)


def _below(text: str) -> str:
    """Return Markdown with its headings two levels lower; what stands in blocks of code is no heading."""
    lines, coded = [], False
    for line in text.split("\n"):
        coded ^= line.startswith(CODE)
        lines.append(line if coded else HEADING.sub(lambda found: f"{'#' * min(len(found[1]) + 2, 6)} ", line))
    return "\n".join(lines)


def _inlined(found: re.Match[str], folder: Path) -> str:
    path = folder / found[2]
    inside = path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink()
    if not inside or not path.is_file() or path.stat().st_size > PICTURE_BYTES:
        return ""
    return f"{found[1]}(data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"


def _said(run: Run, repo: str) -> str:
    if not written(run):
        return ""
    return markup.small(say("This is your own text of the card.")) + markup.note(unnamed(run, repo.strip()), "warn")
