"""Where a run happens, as the page asks it: the places, each one's own options, what each would take and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from hftransfer.errors import UserError
from hftransfer.launchers import HERE, launcher, launchers, of
from hftransfer.launchers._estimate import foreseen
from hftransfer.launchers.base import Launcher, in_words
from hftransfer.runs import Run
from hftransfer.ui import markup, rules
from hftransfer.ui.page import QUIET, Page, html
from hftransfer.ui.saying import retold, say
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import Workers

CALLED = {"local": "This machine", "slurm": "SLURM cluster", "jobs": "Hugging Face Jobs"}
ON_SPACES = ("local", "jobs")  # a cluster would be the owner's, and whoever visits has no account there
ABBREVIATED = {"gpus": "GPUs", "cpus": "CPU cores", "qos": "QoS"}
CHEAPEST = 6  # machines of the Hub's list that a preview tells


def offered(settings: Settings) -> list[str]:
    """Return the places that a visitor may choose, this machine first."""
    names = sorted(launchers(), key=lambda name: name != HERE)
    return [name for name in names if name in ON_SPACES or not settings.space]


def build(page: Page) -> Callable[[], None]:
    """Lay out the choice of a place, the options of each, and what each would take; the function returned wires it."""
    names = offered(page.settings)
    choices = [(called(name), name) for name in names]
    place = gr.Radio(choices, value=HERE, label="Where it runs", elem_id="place", elem_classes="segmented")
    widgets: dict[tuple[str, str], Any] = {}
    parts = []
    for name in names:
        fields = launcher(name).Options.model_fields
        with gr.Column(visible=False, elem_id=f"place-{name}") as part:
            html(f'<p class="quiet small">{markup.text(_needs(name))}</p>')
            with gr.Row(elem_classes="options"):
                for key, one in fields.items():
                    widgets[name, key] = widget(key, one)
        parts.append(part)
    with gr.Row():
        measure = gr.Button("Time and cost in every place", elem_classes="narrow", elem_id="place-measure")
    cost = html(elem_id="place-cost")
    page.go |= {"place": place, "places": widgets, "place-cost": cost}

    def wire() -> None:
        place.change(
            lambda chosen: [gr.update(visible=name == chosen and name != HERE) for name in names], [place], parts,
            **QUIET,
        )  # fmt: skip

        page.on(measure.click, partial(compared, page), page.inputs, [cost, page.estimate],
                meanwhile=(cost, "Training a few real steps on this machine …"))  # fmt: skip

    return wire


def called(name: str) -> str:
    """Return what a place is called."""
    return retold(CALLED.get(name, name))


def compared(page: Page, visitor: Visitor, *values: Any) -> list[Any]:
    """Measure what the form's run would take, and show it for every place."""
    tree = page.tree(values)
    try:
        known = estimated(page, visitor, tree)
    except UserError as error:
        return [markup.note(str(error), "bad"), None]
    return [preview(visitor, offered(page.settings), known["answer"]["seconds"]), known]


def _needs(name: str) -> str:
    place = launcher(name)
    about = retold(f"{place.about[:1].upper()}{place.about[1:]}")
    return say("{about}. It needs {needs}.", about=about, needs=retold(place.needs))


def widget(name: str, field: FieldInfo) -> Any:
    """Return the widget of one option of a place, by what the option takes; empty means the default."""
    kind = _kind(field.annotation)
    label = ABBREVIATED.get(name, name.replace("_", " ").capitalize())
    about = f"{(field.description or '')[:1].upper()}{(field.description or '')[1:]}"
    usual = "" if field.default is None else str(field.default)
    plain: dict[str, Any] = {"label": label, "info": about, "min_width": 190}
    if kind is bool:
        return gr.Checkbox(bool(field.default), **plain)
    if get_origin(kind) is Literal:
        return gr.Dropdown(list(get_args(kind)), value=field.default, **plain)
    return gr.Textbox(placeholder=usual, **plain)


def _kind(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(_kind(one) for one in get_args(annotation) if one is not type(None))
    return annotation


def inputs(page: Page) -> list[Any]:
    """Return the widgets whose values `chosen` takes."""
    return [page.go["place"], *page.go["places"].values()]


def chosen(page: Page, visitor: Visitor, name: Any, values: Sequence[Any]) -> Launcher | None:
    """Return the place that was chosen, with the values of `inputs`; see `told`."""
    widgets = page.go["places"]
    given = {key: value for (place, key), value in zip(widgets, values, strict=True) if place == name}
    return told(page.settings, visitor, name, given)


def told(settings: Settings, visitor: Visitor, name: Any, given: Any) -> Launcher | None:
    """Return a place, told its options and asked by the visitor's token; None for this machine.

    Raises UserError for a place that is not offered or not ready, ConfigError for what is wrong in its options.
    """
    if not isinstance(given, Mapping | None):
        raise UserError(
            "options of a place by their names are needed", f"found {str(given)[:40]!r}", 'Give {"name": value, ...}.'
        )
    stripped = {
        key: value.strip() if isinstance(value, str) else value
        for key, value in rules.small(dict(given or {})).items()
    }
    values = {key: value for key, value in stripped.items() if value not in (None, "")}
    if name in (None, "", HERE):
        launcher(HERE, values)  # which takes none, and says so
        return None
    if name not in offered(settings):
        names = ", ".join(offered(settings))
        raise UserError("one of the places is needed", f"found {str(name)[:40]!r}", f"Choose where it runs: {names}.")
    found = launcher(name, values).acting_as(visitor.token)
    for words in found.missing():
        raise UserError(f"{found.needs} is needed", words, "Choose another place, or see to it first.")
    return found


def of_run(run: Run, visitor: Visitor) -> Launcher | None:
    """Return where a run began, asked by the visitor's token; None for this machine, and a run that never began."""
    return None if run.launch().get("launcher", HERE) == HERE else of(run).acting_as(visitor.token)


def estimated(page: Page, visitor: Visitor, tree: Mapping[str, Any], known: Any = None) -> dict[str, Any]:
    """Return {tree, answer}: what a configuration will take, measured now unless it is known already."""
    if known and known["tree"] == tree:
        return dict(known)
    return {"tree": dict(tree), "answer": measured(page.settings, page.workers, visitor, tree)}


def measured(settings: Settings, workers: Workers, visitor: Visitor, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration that the visitor may use will take, by a check of it on this machine."""
    rules.admit(visitor, tree, settings)
    answer: dict[str, Any] = workers.call(visitor, "estimate", tree=tree)
    return answer


def told_time(place: Launcher, run: Run) -> Launcher:
    """Return a place that must know how long a run takes told what was foreseen of it before."""
    seconds = foreseen(run).get("seconds")
    return place.foreseen(float(seconds))[0] if place.estimates and seconds else place


def preview(visitor: Visitor, names: Sequence[str], seconds: float) -> str:
    """Return what a run that takes so long here would take and cost in every place, as a table."""
    rows = [[called(HERE), in_words(seconds), say("nothing")]]
    for name in names:
        if name == HERE:
            continue
        place = launcher(name).acting_as(visitor.token)
        title = markup.text(called(name))
        if missing := place.missing():
            absent = f'<span class="quiet">{say("not from here")}</span>'
            rows.append([title, absent, markup.text("; ".join(missing))])
            continue
        try:
            offers = place.offers(seconds)[:CHEAPEST]
        except Exception as error:  # a Hub that cannot be reached: the other places are shown all the same
            offers = [say("its prices cannot be had now, {error}", error=type(error).__name__)]
        for offer in offers:
            time, _, price = offer.partition(", ")
            rows.append([title, markup.text(time), markup.text(price or say("as your cluster counts it"))])
    words = say(
        "Times are those of this machine: a GPU takes less time and money than stands here, slower cores take more. "
        "Installing adds minutes."
    )
    return markup.table([say("where"), say("time"), say("cost")], rows) + markup.small(words)
