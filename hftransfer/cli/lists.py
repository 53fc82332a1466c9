"""Commands that list what there is, and the app."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from hftransfer.cli import starting
from hftransfer.cli.asking import shortened
from hftransfer.errors import UserError


def app(options: argparse.Namespace) -> int:
    """Open the app."""
    import importlib.util

    if importlib.util.find_spec("gradio") is None:
        action = "Run: pip install 'gradio[oauth]>=6.31'"
        raise UserError("the package gradio is needed for the app", "it is not installed", action)
    print("starting the app; it takes some seconds", flush=True)
    from hftransfer.ui import app
    from hftransfer.ui.settings import Settings

    settings = Settings.read()
    if options.root is not None:
        settings = dataclasses.replace(settings, root=options.root)
    app.launch(settings, options.host, options.port)
    return 0


def runs(options: argparse.Namespace) -> int:
    """List the runs."""
    from hftransfer import follow
    from hftransfer.errors import Damaged
    from hftransfer.runs import Status, called, everywhere

    rows = [("RUN", "STATE", "PROGRESS", "TEST SCORE")]
    for run in everywhere():
        status = run.status()
        try:
            result = run.result()
        except Damaged as error:
            status, result = Status("damaged", message=str(error)), {}
        if options.json:
            metrics = result.get("test", {}).get("metrics", {})
            print(json.dumps({"run": called(run), "folder": str(run.folder), **vars(status), "test": metrics}))
        progress = f"{status.phase or ''} {status.step}/{status.max_steps}" if status.max_steps else status.phase or ""
        if status.state == "damaged":
            progress = shortened(status.message or "")
        if status.state == "done":
            progress = (
                f"not published: {shortened(status.unpublished)}" if status.unpublished else status.publication or ""
            )
        rows.append((called(run), status.state, progress, score_of(result)))
    if not options.json:
        print(
            *(follow.table(rows) if len(rows) > 1 else ["no runs here; start one: hftransfer train CONFIG"]), sep="\n"
        )
    return 0


def score_of(result: dict[str, Any]) -> str:
    from hftransfer import follow

    for name, score in result.get("test", {}).get("metrics", {}).items():
        return f"{name} {follow.number(score['value'])} ({follow.interval(score)})"
    return ""


def tasks(options: argparse.Namespace) -> int:
    """List tasks and methods."""
    from hftransfer import answers, catalog

    own = [name for name, module in catalog.methods().items() if module != catalog.PEFT]
    of_peft = [name for name in catalog.adapting_methods() if name not in own]
    for name in catalog.tasks():
        task = catalog.task(name)
        kinds = answers.kinds(task.answers)
        fit = [method for method in catalog.adapting_methods() if catalog.fits(name, method)]
        if options.json:
            roles = [{"name": r.name, "takes": r.about, "required": r.required} for r in task.roles]
            about = {"task": name, "about": task.about, "roles": roles, "answers": list(kinds), "methods": fit}
            print(json.dumps(about))
            continue
        print(f"{name}: {task.about}")
        for role in task.roles:
            print(f"  {role.name}{'' if role.required else ' (optional)'}: {role.about}")
        print(f"  answers: {', '.join(kinds)}")
        print(f"  methods: {', '.join(method for method in fit if method in own)}, every peft method")
    if not options.json:
        print(f"\npeft methods: {', '.join(of_peft)}")
    return 0


def where(options: argparse.Namespace) -> int:
    """List the places where runs happen; with a configuration, what it would take and cost in each."""
    from hftransfer.launchers import launcher, launchers

    seconds = starting.measured(options) if options.config else None
    for name in launchers():
        place = launcher(name)
        fields = place.Options.model_fields
        missing = place.missing()
        if seconds is not None:
            offers = [] if missing else place.offers(seconds)
            if options.json:
                print(json.dumps({"place": name, "seconds": round(seconds, 1), "offers": offers, "missing": missing}))
            else:
                print(*(f"{name}: {one}" for one in offers or [f"not from here: {'; '.join(missing)}"]), sep="\n")
            continue
        if options.json:
            told = {key: {"about": one.description, "default": one.default} for key, one in fields.items()}
            print(
                json.dumps(
                    {"place": name, "about": place.about, "needs": place.needs, "missing": missing, "options": told}
                )
            )
            continue
        print(f"{name}: {place.about}\n  needs: {place.needs}\n  here: {'; '.join(missing) or 'ready'}")
        for key, one in fields.items():
            default = "" if one.default is None else f" (default: {str(one.default).lower()})"
            print(f"  --place {key}=...  {one.description}{default}")
    return 0


def samples(options: argparse.Namespace) -> int:
    """List or fetch samples."""
    from hftransfer import follow, samples

    for name in options.rest:
        samples.materialise(name)
    if not options.rest:
        rows = [("SAMPLE", "KIND", "TASK", "MB", "LICENCE", "")]
        for sample in samples.listing():
            place = "present" if sample.present else ""
            kind = "model" if sample.is_model else "data"
            rows.append((sample.name, kind, sample.task, f"{sample.size / 1e6:.1f}", sample.licence, place))
        print(*follow.table(rows), sep="\n")
    return 0
