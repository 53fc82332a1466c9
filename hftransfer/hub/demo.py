"""A static Space in which a published model answers in the visitor's browser: one page, and nothing to pay."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from importlib import resources
from string import Template

from hftransfer import artifact, catalog
from hftransfer.errors import UserError
from hftransfer.hub.connection import endpoint
from hftransfer.hub.retrying import insist
from hftransfer.runs import Run, called
from hftransfer.yaml_core import dump_yaml

VERSION = "4.3.2"  # of transformers.js: the one that exported models are asked with in the tests
SHOWN = ("textbox", "picture")  # widgets that the page has


def require(run: Run) -> None:
    """Raise UserError for a run whose model no browser can be asked."""
    task = catalog.task(run.config().task)
    found = artifact.onnx_of(run.artifact)
    if not found:
        raise UserError(
            "a model that was exported is needed for a demo", f"{run.name} has no ONNX form",
            f"Run: hftransfer export {called(run)}",
        )  # fmt: skip
    if not found["transformers_js"] or not possible(task.name):
        raise UserError(
            "a model that transformers.js can be asked is needed for a demo", f"{task.name} is none, or not this one",
            "Publish without --demo.",
        )  # fmt: skip


def possible(name: str) -> bool:
    """Tell whether models of a task can be asked by transformers.js with the widgets that the page has."""
    task = catalog.task(name)
    widgets = [role.takes.widget for role in task.shown if role.takes is not None and role.required]
    single = len(widgets) == 1 or task.browser_takes_all
    return task.browser is not None and single and not set(widgets) - set(SHOWN)


def address_of(repo: str) -> str:
    """Return where the Space of a model is."""
    return f"{endpoint()}/spaces/{repo}-demo"


def page(run: Run, repo: str) -> str:
    """Return the page: it asks `repo` in the visitor's browser."""
    task = catalog.task(run.config().task)
    roles = [
        {"name": role.name, "picture": role.takes.widget == "picture", "example": json.loads(role.takes.example)}
        for role in task.shown
        if role.takes is not None and role.required
    ]
    points = (run.result().get("operating") or {}).get("points") or ()
    settings = {
        "points": [[one["label"], one["threshold"]] for one in points if one.get("threshold") is not None],
        "task": task.browser, "model": repo, "dtype": "q8", "roles": roles, "options": dict(task.browser_options),
    }  # fmt: skip
    template = resources.files("hftransfer.card").joinpath("demo.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=html.escape(repo), repo=html.escape(repo), version=VERSION,
        settings=json.dumps(settings).replace("<", "\\u003c"),
    )  # fmt: skip


def publish(run: Run, repo: str, say: Callable[..., object]) -> str:
    """Make the Space `repo`-demo, or bring it up to date, and return its address; UserError for a private model."""
    from huggingface_hub import CommitOperationAdd, HfApi

    require(run)
    api = HfApi()
    if api.repo_info(repo).private:
        raise UserError(
            "a public model is needed for a demo: a visitor's browser has no token", f"{repo} is private",
            "Publish it with --no-private, or without --demo.",
        )  # fmt: skip
    space = f"{repo}-demo"
    front = {"title": repo.partition("/")[2], "sdk": "static", "models": [repo], "pinned": False}
    about = f"---\n{dump_yaml(front)}---\n\nThe model [{repo}]({endpoint()}/{repo}), asked in the visitor's browser.\n"
    files = {"README.md": about, "index.html": page(run, repo)}

    def commit() -> None:
        api.create_repo(space, repo_type="space", space_sdk="static", private=False, exist_ok=True)
        additions = [CommitOperationAdd(name, text.encode()) for name, text in files.items()]
        api.create_commit(space, additions, commit_message="Publish with hftransfer", repo_type="space")

    insist(commit, lambda message: say("publishing", repo=space, stage="waiting", message=message))
    address = address_of(repo)
    say("notice", message=f"demo: {address}")
    return address
