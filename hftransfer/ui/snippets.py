"""The lines with which programs ask a model: from Python, JavaScript and a shell."""

from __future__ import annotations

import ast
import json
import mimetypes
import os
import shlex
from collections.abc import Callable

from hftransfer import catalog
from hftransfer.inputs.base import Input
from hftransfer.runs import Run
from hftransfer.tasks.base import Task
from hftransfer.ui import markup
from hftransfer.ui.page import Page

USUAL = "http://127.0.0.1:7860"  # where the app listens unless told otherwise


def address(page: Page) -> str:
    """Return where programs reach this app: a Space's own name, elsewhere the port that it was given."""
    name = os.environ.get("SPACE_HOST", "").split(",")[0].strip()
    if page.settings.space and name:
        return f"https://{name}"
    return str(getattr(page.blocks, "local_url", None) or USUAL).rstrip("/")


def of(run: Run, at: str = USUAL, signed: bool = False) -> dict[str, str]:
    """Return lines by language: of a model in its folder, and of the app at an address, which answers other programs.

    With `signed`, programs tell by a token of the Hub whose run they ask.
    """
    task = catalog.task(run.config().task)
    return {
        "Python": (
            "from hftransfer.predictor import Predictor\n\n"
            f"model = Predictor({str(run.artifact)!r})\nprint(model.answer([{example(task)}]))"
        ),
        "JavaScript": _javascript(task, run.name, at, signed),
        "curl": _shell(task, run.name, at, signed),
    }


def example(task: Task) -> str:
    """Return an input with all that a task needs, as Python writes it."""
    needed = _needed(task)
    if len(needed) == 1:
        return next(iter(needed.values())).example
    return "{" + ", ".join(f"{json.dumps(name)}: {takes.example}" for name, takes in needed.items()) + "}"


def sent(task: Task, text: Callable[[str], str], file: Callable[[str, str], str]) -> str:
    """Return an input as programs send it: what `text` writes of a text, and `file` of a file and the kind of it."""

    def value(takes: Input) -> str:
        found = ast.literal_eval(takes.example)
        if takes.suffixes:
            kind = (mimetypes.guess_type(found)[0] or "").replace("audio/x-", "audio/")
            return file(found, f"data:{kind};base64,")
        return text(found if isinstance(found, str) else takes.shown(found))

    needed = _needed(task)
    if len(needed) == 1:
        return value(next(iter(needed.values())))
    return "{" + ", ".join(f"{text(name)}: {value(takes)}" for name, takes in needed.items()) + "}"


def _needed(task: Task) -> dict[str, Input]:
    return {role.name: role.takes for role in task.shown if role.required and role.takes is not None}


def _javascript(task: Task, name: str, at: str, signed: bool) -> str:
    asked = sent(task, json.dumps, lambda file, head: f'"{head}" + readFileSync("{file}", "base64")')
    reads = 'import { readFileSync } from "node:fs";\n' if "readFileSync" in asked else ""
    token = ", { token: process.env.HF_TOKEN }" if signed else ""
    return (
        f'// npm install @gradio/client, while the app runs\n{reads}import {{ Client }} from "@gradio/client";\n\n'
        f'const app = await Client.connect("{at}"{token});\n'
        f'const found = await app.predict("/predict", {{ where: {json.dumps(name)}, inputs: [{asked}] }});\n'
        "console.log(found.data[0]);"
    )


def _shell(task: Task, name: str, at: str, signed: bool) -> str:
    """Return lines for a shell; a file goes by a pipe, since a command takes no more than some characters."""
    files: list[str] = []

    def file(called: str, head: str) -> str:
        files.append(called)
        return f'"{head}%s"'

    asked = sent(task, json.dumps, file)
    body = f'{{"data": [{json.dumps(name)}, [{asked}], 5]}}'
    token = ' \\\n  -H "Authorization: Bearer $HF_TOKEN"' if signed else ""
    call = f"curl -s {at}/gradio_api/call/predict -H 'Content-Type: application/json'{token} \\\n  -d "
    identity = " | cut -d'\"' -f4"
    if files:
        body = f'{{"data": [{json.dumps(name).replace("%", "%%")}, [{asked}], 5]}}'
        read = " ".join(f"\"$(base64 < {shlex.quote(one)} | tr -d '\\n')\"" for one in files)
        first = f"id=$(printf {shlex.quote(body)} {read} \\\n  | {call}@-{identity})"
    else:
        first = f"id=$({call}{shlex.quote(body)}{identity})"
    return f"{first}\ncurl -s {at}/gradio_api/call/predict/$id{token}"


def shown(run: Run, page: Page) -> str:
    """Return the lines as HTML."""
    return "".join(
        f'<h4>{markup.text(name)}</h4><pre class="log" tabindex="0" aria-label="{markup.text(name)}">'
        f"{markup.text(lines, 4000)}</pre>"
        for name, lines in of(run, address(page), page.settings.space).items()
    )
