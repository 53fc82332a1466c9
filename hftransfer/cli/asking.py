"""Commands that ask: the engine before training, a trained model after it."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer.cli.starting import INTERRUPTED, relative_to_here
from hftransfer.errors import UserError


def check(options: argparse.Namespace) -> int:
    """Find out what can be known before training."""
    return _ask_engine(options, "--check")


def rank(options: argparse.Namespace) -> int:
    """Find out which pretrained model to start from."""
    return _ask_engine(options, "--rank", options.models, "--by", options.by)


def curve(options: argparse.Namespace) -> int:
    """Find out whether more labels would help."""
    return _ask_engine(options, "--curve")


def _ask_engine(options: argparse.Namespace, *question: str) -> int:
    """Run the engine's script in a process of its own, and show what it finds out."""
    from hftransfer import api, follow

    tree = api.tree_of(options.config, options.rest)  # what is known without the engine is said first
    with api.asked(tree, question) as child:
        follow.show(api.events_of(child), follow.style_for(sys.stdout, options.json), verbose=options.verbose)
    return child.returncode if child.returncode in (0, 1, UserError.exit_code, INTERRUPTED) else 1


def predict(options: argparse.Namespace) -> int:
    """Ask a trained model."""
    from hftransfer import follow, imports, views
    from hftransfer.hub import connection
    from hftransfer.runs import is_local

    where = _model(options.where)
    if not is_local(where):
        connection.go_offline_if_unreachable()
    with imports.uncollected():
        from hftransfer.predictor import Predictor

    predictor = Predictor(where, options.revision, bf16=options.bf16)
    taken: Counter[str] = Counter()
    for answers in predictor.answers(options.rest, top_k=options.top_k):  # a long table's as they are made
        if options.files is not None:
            files = [predictor.answered.files(answer) for answer in answers]
            _write_files(Path(options.files), answers, files, taken)
        if options.json:
            print(*map(json.dumps, answers), sep="\n", flush=True)
            continue
        found = predictor.views(answers)
        shown = [views.line(view, options.top_k or 1) for view in found]
        rows = [(shortened(str(answer["input"])), line) for answer, line in zip(answers, shown, strict=True)]
        print(*follow.table(views.listing(found) or rows), sep="\n", flush=True)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a finished run's model in another form."""
    from hftransfer import follow, imports
    from hftransfer.runs import find

    run = find(options.run)
    if not options.json:
        print(f"exporting {run.name}", flush=True)
    with imports.uncollected():
        from hftransfer.export import onnx

    found = onnx.export(run)
    print(json.dumps(found) if options.json else follow.exported_text(found))
    if not options.json:
        print(f"folder: {relative_to_here(run.artifact / 'onnx')}")
    return 0


def _write_files(
    folder: Path, answers: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, bytes]], taken: Counter[str]
) -> None:
    """Write what each answer holds beside text, called after its input; UserError where none holds anything.

    `taken` counts the names that were given before.
    """
    if not any(found) and not taken:
        raise UserError("answers that are no text are needed for --files", "these are all text", "Drop --files.")
    folder.mkdir(parents=True, exist_ok=True)
    for answer, parts in zip(answers, found, strict=True):
        given = answer["input"]
        stem = Path(str(next(iter(given.values()), "") if isinstance(given, Mapping) else given)).stem or "answer"
        taken[stem] += 1
        name = stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"
        for end, content in parts.items():
            (folder / f"{name}.{end}").write_bytes(content)


def _model(where: str) -> str:
    """Return the artifact of a run, and any other folder or Hub id as it is."""
    from hftransfer.runs import ROOT, find, require_artifact

    if not any((folder / "config.yaml").is_file() for folder in (Path(where), ROOT / where)):
        return where
    run = find(where)
    return str(require_artifact(run))


def shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
