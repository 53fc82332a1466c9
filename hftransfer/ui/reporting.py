"""A run's report as one HTML file that stands alone and prints well: scores, pictures, cost, settings, code."""

from __future__ import annotations

from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import markup, received, saying, snippets, theme, train_view, visitors
from hftransfer.ui.page import Page
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor


def write(page: Page, visitor: Visitor, name: str | None) -> str:
    """Write the report of a finished run, and return its place."""
    from hftransfer.ui import result_step

    run = visitors.find(visitor, name or "")
    result = page.monitor.result(run.folder)
    if not result:
        raise UserError("a run that is done is needed", f"{run.name} is not", "Wait for it.")
    parts = [
        result_step.scores_of(result), result_step.where_of(result, run.folder),
        train_view.curves_of(page.monitor.view(run.folder)),
        result_step.cost_of(result, train_view.estimate_of(run.folder)), _settings(run), snippets.shown(run, page),
    ]  # fmt: skip
    path = received.place(f"{run.name}.html")
    path.write_text(document(train_view.called(run), run.title()[1], parts), encoding="utf-8")
    return str(path)


def document(title: str, note: str, parts: list[str]) -> str:
    """Return one HTML document; what is folded away on the page stands open in it."""
    css = "".join((theme.PLACE / name).read_text(encoding="utf-8") for name in ("page.css", "report.css"))
    inside = "".join(f"<section>{part}</section>" for part in parts if part).replace("<details", "<details open")
    said = f"<p>{markup.text(note, 1000)}</p>" if note else ""
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{markup.text(title)}</title>'
    )
    return (
        f'<!doctype html><html lang="{saying.tag()}"><head>{head}<style>{css}</style></head>'
        f'<body><main><button type="button" onclick="print()">{say("Print, or save as PDF")}</button>'
        f"<h1>{markup.text(title)}</h1>{said}{inside}</main></body></html>"
    )


def _settings(run: Run) -> str:
    text = run.config_path.read_text(encoding="utf-8")
    return markup.title("Settings") + f'<pre class="log">{markup.text(visitors.redacted(text), 20_000)}</pre>'
