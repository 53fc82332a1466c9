"""The app: one page with six steps over run folders, worker processes and a queue. Run: hftransfer app"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import gradio as gr
from starlette.middleware import Middleware

from hftransfer.errors import UserError
from hftransfer.inputs import _dicom
from hftransfer.launchers import launcher
from hftransfer.safety import machine
from hftransfer.ui import (
    api,
    data_step,
    form,
    markup,
    model_step,
    patience,
    publish_step,
    received,
    result_step,
    saying,
    theme,
    train_step,
    try_step,
)
from hftransfer.ui.gate import Gate, NoPreflight
from hftransfer.ui.line import THREADS
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.page import Page, html
from hftransfer.ui.queueing import QUEUE, Queue
from hftransfer.ui.same_origin import allow_host
from hftransfer.ui.saying import retold, say
from hftransfer.ui.settings import Settings, remarks, require_sign_in
from hftransfer.ui.spoken_page import Spoken
from hftransfer.ui.visitors import Visitor, forget_owner
from hftransfer.ui.workers import Workers

STEPS = ("Data", "Model", "Train", "Result", "Try", "Publish")


def build(settings: Settings) -> gr.Blocks:
    """Return the page; the queue's thread and the workers start with it."""
    forget_owner(settings)
    queue = Queue(settings, launcher("local"))
    blocks = laid_out(Page(settings, queue, Workers(settings), Monitor()))
    queue.start()
    if settings.space:  # elsewhere other programs keep theirs in the same folder
        received.keep_swept()
    return blocks


def laid_out(page: Page) -> gr.Blocks:
    """Return the page with its six steps and endpoints; nothing is started."""
    settings = page.settings
    with saying.laid_out(), gr.Blocks(title="hftransfer", analytics_enabled=False, fill_width=True) as blocks:
        page.blocks = blocks
        with gr.Row(elem_id="top"):
            html(_masthead())
            if settings.space:
                gr.LoginButton("Sign in with Hugging Face", scale=0, size="sm", min_width=180)
        for words in remarks(settings):
            html(markup.note(words, "warn"))
        html(_steps(), elem_id="steps")
        page.run = gr.Dropdown(
            [], value=None, label="Run", elem_id="run", visible=False,
            allow_custom_value=True,  # a page may name a run that its session, new after a restart, never listed
        )  # fmt: skip
        for wire in [
            step.build(page) for step in (data_step, model_step, train_step, result_step, try_step, publish_step)
        ]:
            wire()
        _name_keys(page)
        _remember(page, blocks)
        api.add(settings, page.queue, page.workers)
    saying.mark_widgets(blocks)
    _keep_signatures(blocks)
    return cast(gr.Blocks, blocks)


def _keep_signatures(blocks: gr.Blocks) -> None:
    """Keep what Gradio asks Python about its components at each answer: it takes longer than our own part of one."""
    for kind in {type(block) for block in blocks.blocks.values()}:
        written: Any = kind.__init__
        while written is not None:
            written.__signature__ = inspect.signature(written)
            written = vars(written).get("__wrapped__")


def _name_keys(page: Page) -> None:
    """Tell the page's script what each widget of the form is called in a configuration: a title shows it."""
    found = {}
    for path, widget in page.widgets.items():
        widget.elem_id = widget.elem_id or f"set-{path.replace('.', '-')}"
        found[widget.elem_id] = path
    html(f'<div id="config-keys" hidden data-keys="{markup.text(json.dumps(found), 10_000)}"></div>')


def _masthead() -> str:
    """Return the product's name, what it is for, and the languages to choose among."""
    words = say("From your data to a published model, with honest numbers.")
    choices = "".join(
        f'<button type="button" data-language="{name}" lang="{saying.TAGS.get(name, name)}">{called}</button>'
        for name, called in saying.languages().items()
    )
    return (
        f'<div class="masthead"><h1>hf<i>transfer</i></h1><span>{words}</span>'
        f'<div class="languages" role="group" aria-label="{say("Language")}">{choices}</div></div>'
    )


def _steps() -> str:
    links = "".join(
        f'<li><a href="#{name.lower()}"><b><span>{place}</span>{retold(name)}</b><small></small></a></li>'
        for place, name in enumerate(STEPS, 1)
    )
    return f'<nav class="steps" aria-label="{say("Steps")}"><ol>{links}</ol></nav>'


def _remember(page: Page, blocks: gr.Blocks) -> None:
    """Keep the form and the run in the browser, and the run in the address: a reload brings both back."""
    draft = gr.BrowserState(None, storage_key="hftransfer-draft", secret="hftransfer-draft")

    asked, step = gr.Textbox(visible=False), gr.Textbox(visible=False)
    loaded = blocks.load(None, js="() => hftransfer.asked()", outputs=[asked, step])
    shown = page.on(loaded.then, partial(restore, page), [draft, asked], [page.run, page.go["origin"], *page.inputs])
    tick, inputs, outputs = page.go["refresh"]
    page.on(shown.then, tick, inputs, outputs)
    page.on(shown.then, *page.go["mine"])  # uploads stand first, and no choice of them says so
    _, seen = page.go["look"]

    page.on(shown.success, partial(look_if_there, page), [step, *page.inputs], seen, turn=data_step.ROWS)

    page.on_form(partial(keep, page), [page.run, *page.inputs], [draft], also=[page.go["viewed"].change])
    page.tell_settled()
    page.go["viewed"].change(None, [page.run], None, js="(name) => { hftransfer.run(name); }")


def restore(page: Page, visitor: Visitor, kept: Any, asked: str) -> list[Any]:
    """Return the run in view and the form, of what a browser kept and its address asks for."""
    entries = train_step.entries_of(page, visitor)
    names = [run.name for run, _, _ in entries]
    known = kept if isinstance(kept, dict) else {}
    run = next((name for name in (asked, known.get("run"), *names) if name in names), None)
    choice = gr.update(choices=train_step.choices_of(entries), value=run, visible=bool(names))
    untouched = [choice, gr.skip(), *(gr.skip() for _ in page.inputs)]
    try:
        tree = form.checked(known["tree"])
        return [choice, data_step.origin_of(visitor, tree), *page.filled(tree)]
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return untouched  # a browser may hold anything


def look_if_there(page: Page, visitor: Visitor, now: str, *values: Any) -> Any:
    """Show the form's rows where their step is open; a preview costs a process, and the page's script asks later."""
    if now == "data":
        page.workers.prepare(visitor)
    if now == "data" or not values[list(page.widgets).index("data.source")]:
        return data_step.look(page, visitor, *values)
    return ['<div id="look-later"></div>', *(gr.skip() for _ in range(data_step.SEEN + 1))]


def keep(page: Page, visitor: Visitor, run: str | None, *values: Any) -> dict[str, Any]:
    """Return what a browser keeps: the form and the run in view."""
    return {"tree": page.tree(values), "run": run}


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Say in words that a page which was just served does not answer: gradio asks it, and gives it seconds."""
    try:
        yield
    except ValueError as error:
        if "localhost" not in str(error):
            raise
        raise UserError(
            "the app must be reached by its own address", "it does not answer there within seconds",
            "Try again when the machine is less busy; behind a proxy set NO_PROXY=localhost,127.0.0.1.",
        ) from error  # fmt: skip


def launch(settings: Settings, host: str = "127.0.0.1", port: int | None = None, block: bool = True) -> gr.Blocks:
    """Serve the page and return it; with `block`, until Ctrl-C."""
    require_sign_in(settings)
    _dicom.leave_to_others()  # gradio opens pictures in this process, and a file of medicine is for a fenced one
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # Gradio sums up its last 10,000 events after each one, with pandas, unless told to do so rarely
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000")
    allow_host(host)
    blocks = build(settings)
    blocks.queue(default_concurrency_limit=None, max_size=1000)
    with reached():
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            theme=theme.theme(),
            head=theme.head(),
            favicon_path=str(theme.PLACE / "favicon.png"),
            footer_links=[],
            run_history=False,  # it would keep what was typed in the browser
            max_file_size=f"{settings.upload_mb}mb" if settings.upload_mb else None,
            allowed_paths=[],
            app_kwargs={"middleware": [Middleware(Gate, settings=settings), Middleware(Spoken)]},
            ssr_mode=False,
            max_threads=THREADS,
            mcp_server=api.mcp_wanted(settings),
            show_error=False,
        )
    patience.watch(blocks.server)
    if settings.space:  # a laptop's one visitor waits for the page; here strangers would hold up whoever trains
        machine.let_first((threading.main_thread().name, QUEUE))
    blocks.app.middleware_stack = NoPreflight(blocks.app.middleware_stack)  # gradio's CORS stands before the gate
    if block:
        print(f"the app is at {url}  (Ctrl-C ends it; runs go on)", flush=True)
        blocks.block_thread()
    return blocks
