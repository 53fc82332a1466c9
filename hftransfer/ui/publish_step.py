"""Step 6, Publish: the card as it will look, one button, progress, and the link that was verified from outside."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import artifact
from hftransfer.errors import UserError
from hftransfer.hub import demo
from hftransfer.runs import Run, verdict_of
from hftransfer.safety import machine
from hftransfer.ui import card_part, headline, markup, memory, visitors
from hftransfer.ui.monitor import View
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import retold, say
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "openrail", "other")
SURE = "Publish it although it is of no use as it is"
SECONDS = 7200.0  # after which a push is ended
LOOK = 2.0  # seconds between two looks at one
LOG = "publish.log"
STAGES = {"exporting": "Writing it in the form that browsers read",
          "checking": "Checking the token and the name", "uploading": "Uploading",
          "verifying": "Loading it back from the Hub and comparing its answers"}  # fmt: skip


def none() -> str:
    """Return what stands here without a finished run."""
    words = say("A finished run can go to the Hub, with its card.")
    return markup.empty("Nothing to publish yet", words, "train", "Go to training")


def build(page: Page) -> Callable[[], None]:
    """Lay out the step; the function it returns wires it, once every step is laid out."""
    with gr.Column(elem_id="panel-publish", elem_classes="step"):
        html(markup.lead("Publish", "The model and an honest card, on the Hub under your own name."))
        nothing = html(none())
        with gr.Column(visible=False) as there:
            with gr.Column(elem_classes="card-block"):
                with gr.Row():
                    repo = gr.Textbox(label="Name", info="owner/name, or a name below your own account", scale=2,
                                      min_width=200, elem_id="repo")  # fmt: skip
                    licence = gr.Dropdown(
                        [(say("the base model's"), ""), *((one, one) for one in LICENCES)], value="", label="Licence",
                        info="Of what you publish", allow_custom_value=True, min_width=160,
                    )  # fmt: skip
                with gr.Row():
                    private = gr.Checkbox(label="Private: only you and your organisation see it", value=True,
                                          elem_id="private")  # fmt: skip
                    pull = gr.Checkbox(label="As a pull request to an existing repo", value=False)
                    beside = gr.Checkbox(
                        label="A page beside it where anybody can ask it", value=False, visible=False,
                        info="It answers in the visitor's browser, and costs nothing", elem_id="publish-demo",
                    )  # fmt: skip
                state = html(elem_id="publishing")
                with gr.Row(elem_classes="foot"):
                    push = gr.Button("Publish", variant="primary", elem_id="publish")
                sure = gr.Checkbox(label=SURE, value=False, visible=False, elem_id="publish-sure")
            card, wire_card = card_part.build(page)
    page.go["publishing"] = state

    def wire() -> None:
        wire_card(repo, licence)
        _, text, _, was = card
        page.on(
            gr.on, partial(offer, page), [page.run, repo, licence, was], [nothing, there, repo, sure, *card],
            triggers=[page.go["viewed"].change, licence.change, repo.blur],
        )  # fmt: skip

        page.on(
            push.click,
            partial(publish, page),
            [page.run, repo, licence, private, pull, sure, text, was, beside],
            [state, page.go["timer"]],
        )
        page.on(gr.on, partial(offer_demo, page), [page.run], [beside], triggers=[page.go["viewed"].change])

    return wire


def offer(
    page: Page, visitor: Visitor, name: str | None, typed: str, chosen: str, was: Sequence[str] = ()
) -> list[Any]:  # fmt: skip
    """Show the card of a run as it will look, and what must be said before it is published."""
    run = visitors.find(visitor, name) if name else None
    result = page.monitor.result(run.folder) if run else {}
    if run is None or not result:
        return [none(), gr.update(visible=False), *(gr.skip() for _ in range(6))]
    suggested = typed or suggestion(visitor, result)
    verdict = verdict_of(result)
    plain = [one for one in verdict.advice if not headline.in_settings(one)]
    said = markup.note([*verdict.sentences, *plain], "bad" if verdict.useless else "warn")
    again = gr.update(visible=verdict.useless, value=False)  # whoever wants it says so twice
    return [said, gr.update(visible=True), suggested, again, *card_part.opened(run, result, suggested, chosen, was)]


def offer_demo(page: Page, visitor: Visitor, name: str | None) -> Any:
    """Offer a demo for a finished run whose task browsers can be asked for."""
    run = visitors.find(visitor, name) if name else None
    result = page.monitor.result(run.folder) if run else {}
    return gr.update(visible=bool(result) and demo.possible(result["task"]), value=False)


def publish(
    page: Page, visitor: Visitor, name: str | None, to: str, chosen: str, hidden: bool, as_pull: bool, certain: bool,
    text: str, was: Sequence[str], beside: bool = False,
) -> list[Any]:  # fmt: skip
    """Begin to publish a run with the card's text as it stands, or say why not."""
    try:
        run = card_part.settled(page, visitor, name, text, was, to, chosen)
        require_certain(page.monitor.result(run.folder), certain)
        start(page.settings, visitor, run, to, chosen, hidden, as_pull, *([True] if beside else []))
    except UserError as error:
        return [markup.note(str(error), "bad"), gr.skip()]
    return [_bar(say("Starting"), None) + markup.note(card_part.unnamed(run, to.strip()), "warn"), gr.Timer(1.0)]


def require_certain(result: Mapping[str, Any], certain: bool) -> None:
    """Raise UserError for a model of no use that its owner did not say twice to publish."""
    if result and verdict_of(result).useless and not certain:
        raise UserError("a model that is of use is needed", verdict_of(result).sentences[0], f"Or tick: {SURE}.")


def suggestion(visitor: Visitor, result: Mapping[str, Any]) -> str:
    """Return a name for the repo: the visitor's account, the model and the data."""
    parts = (str(result["model"]), str(result["data"].get("source", "")))
    words = [re.sub(r"[^\w.-]+", "-", part.removeprefix("sample:").rstrip("/").rsplit("/", 1)[-1]) for part in parts]
    name = re.sub(r"\.(csv|tsv|jsonl?|parquet|zip)$", "", "-".join(word for word in words if word))[:90].strip("-.")
    return name if visitor.local or visitor.anonymous else f"{visitor.name}/{name}"


def start(
    settings: Settings, visitor: Visitor, run: Run, repo: str, licence: str, private: bool, pull: bool,
    beside: bool = False,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Publish in a process of its own with the visitor's token; UserError for a name that can be none.

    `beside`: a demo is made as well, for which the model is written in the form that browsers read.
    """
    if licence and not re.fullmatch(r"[\w.+-]{1,60}", licence, re.ASCII):
        raise UserError("a licence as the Hub names it is needed", f"found {licence[:60]!r}", "apache-2.0, mit, ...")
    name = visitors.require_writing(visitor, repo)
    if beside and (private or pull):
        raise UserError(
            "a public model is needed for a page beside it: a visitor's browser has no token",
            "it is private, or a pull request", "Untick one of the two.",
        )  # fmt: skip
    first = ["--export"] if beside and not artifact.onnx_of(run.artifact) else []
    command = [sys.executable, "-m", "hftransfer.cli", "publish", str(run.folder), name, "--json", *first]
    command += ["--demo"] if beside else []
    command += ["--private" if private else "--no-private", *(["--create-pr"] if pull else [])]
    command += ["--license", licence] if licence else []
    text = card_part.written(run)
    command += ["--card", str(text)] if text is not None else []
    with _STARTING:  # two clicks are one push
        if _busy(run):
            raise UserError("one push at a time", f"{run.name} is being published", "Wait for it.")
        _require_turn(settings, visitor)
        if first:
            run.event("publishing", repo=name, stage="exporting")
        with open(run.folder / LOG, "wb") as log:
            child = subprocess.Popen(
                command, env=visitors.environment(visitor, settings), cwd=run.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log, **machine.own_session(),
            )  # fmt: skip
        _PUSHING[run.folder] = child
    threading.Thread(target=_watch, args=(run, child, name, visitor, settings), daemon=True).start()
    return child


_STARTING = threading.Lock()
_PUSHING: dict[Path, subprocess.Popen[bytes]] = {}  # only to reap them; what happened is in the run's events


def _busy(run: Run) -> bool:
    child = _PUSHING.get(run.folder)
    return child is not None and child.poll() is None


def _require_turn(settings: Settings, visitor: Visitor) -> None:
    """Raise UserError where a visitor pushes something else, or others push as much as this machine bears.

    Each loads a model, to write it for browsers or to ask it back from the Hub: as much memory as a run.
    """
    going = [folder for folder, child in list(_PUSHING.items()) if child.poll() is None]
    if settings.pushes and any(folder.is_relative_to(visitor.folder) for folder in going):
        raise UserError("one push at a time", "another run of yours is being published", "Wait for it.")
    if settings.pushes and len(going) >= settings.pushes:
        raise UserError(
            f"at most {settings.pushes} runs are published at the same time here", "others push theirs",
            "Try again in a minute.",
        )  # fmt: skip


def _ended(child: subprocess.Popen[bytes], settings: Settings) -> tuple[int, str]:
    """Wait for a push within its time and memory; return its exit code, and why it was ended, if it was."""
    end, most = time.monotonic() + SECONDS, settings.run_memory_mb
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(LOOK), ""
        why = f"a push may take {SECONDS:,.0f} s" if time.monotonic() > end else ""
        if most and memory.held_mb(child.pid, most) > most:
            why = f"a push may use {most:,} MB of memory here"
        if why:
            machine.end_session(child.pid)  # what loads the model back is a process below it
            return child.wait(), f"{why}, and this one took more"


def _watch(run: Run, child: subprocess.Popen[bytes], repo: str, visitor: Visitor, settings: Settings) -> None:
    """Wait for a push; when it ended without its own last word, say so in its place."""
    code, why = _ended(child, settings)
    _PUSHING.pop(run.folder, None)
    said = [event["type"] for event in run.events()[0] if event["type"] in ("publishing", "published", "unpublished")]
    if code and said[-1:] != ["unpublished"]:
        with contextlib.suppress(OSError):
            lines = (run.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = lines[-1].removeprefix("hftransfer: ") if lines else "the process ended without a word"
            message = why or last
            run.event("unpublished", repo=repo, message=visitors.redacted(message, visitor), user_error=code == 2)
    with contextlib.suppress(OSError):
        (run.folder / LOG).unlink()


def goes_on(view: View | None) -> bool:
    """Tell whether a push of this run is under way."""
    return bool(view and view.publishing and view.publishing[-1]["type"] == "publishing" and _busy(view.run))


def progress_of(view: View) -> str:
    """Return how far the last push is, or how it ended, and what is odd about the card that it brings."""
    if not view.publishing:
        return ""
    odd = card_part.unnamed(view.run, str(view.publishing[-1].get("repo", "")))
    return _how_far(view, view.publishing[-1]) + markup.note(odd, "warn")


def _how_far(view: View, event: Mapping[str, Any]) -> str:
    repo = str(event.get("repo", ""))
    if event["type"] == "published":
        url = str(event.get("url", ""))
        safe = markup.text(url) if url.startswith(("http://", "https://")) else ""
        proof = (
            say("It was loaded back from there and gives the same answers.")
            if event.get("verified")
            else say("Not verified.")
        )
        link = (
            f'<a href="{safe}" target="_blank" rel="noopener">{markup.text(repo)}</a>' if safe else markup.text(repo)
        )
        commit = f' <span class="quiet small">{say("commit")} {markup.text(str(event.get("commit", ""))[:8])}</span>'
        more = _demo_of(view, repo)
        return (
            f'<div class="note good" role="status"><p>{say("Published:")} {link}{commit}</p><p>{proof}</p>{more}</div>'
        )
    if event["type"] == "unpublished":
        return markup.note(["Not published; the model is still here. Publish again after:", str(event.get("message"))],
                           "bad")  # fmt: skip
    if not _busy(view.run):
        return markup.note("The last push was cut off. Publish again: what was sent is not sent twice.", "warn")
    done, total = event.get("done"), event.get("total")
    share = done / total if isinstance(done, int | float) and isinstance(total, int | float) and total else None
    return _bar(retold(STAGES.get(str(event.get("stage")), "")) or say("Publishing"), share)


def _demo_of(view: View, repo: str) -> str:
    """Return a link to the page beside a model where one was made; empty otherwise."""
    address = demo.address_of(repo)
    if f"demo: {address}" not in [event.get("message") for event in view.said]:
        return ""
    words = say("Ask it in a browser: {page}", page=f"{repo}-demo")
    return f'<p><a href="{markup.text(address)}" target="_blank" rel="noopener">{markup.text(words)}</a></p>'


def _bar(words: str, share: float | None) -> str:
    css, width = ("progress waiting", "") if share is None else ("progress", f' style="width:{100 * share:.0f}%"')
    value = "" if share is None else f' aria-valuenow="{100 * share:.0f}" aria-valuemin="0" aria-valuemax="100"'
    part = "" if share is None else f", {share:.0%}"
    return (
        f'<div class="{css}" role="progressbar" aria-label="{say("publishing")}"{value}><i{width}></i></div>'
        f'<div class="quiet small" role="status">{markup.text(words)}{part}</div>'
    )
