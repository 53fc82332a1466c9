"""Step 2, Model: choose a pretrained model and how to adapt it, see what it will cost, take the same as code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from hftransfer import catalog, samples
from hftransfer.errors import UserError
from hftransfer.ui import form, markup, received, rules, search, train_step, visitors
from hftransfer.ui.data_step import FIRST
from hftransfer.ui.fetching import fetch, presence
from hftransfer.ui.line import LINE
from hftransfer.ui.markup import Card
from hftransfer.ui.page import Page, html
from hftransfer.ui.proposing import is_proposed, sample_models, usual
from hftransfer.ui.saying import retold, say
from hftransfer.ui.train_view import ready_of
from hftransfer.ui.visitors import Visitor

OWN = "Your settings"
LOOKING = "Looking at the model …"
TIMES = [("The best there is", ""), ("5 minutes", "5"), ("15 minutes", "15"), ("an hour", "60")]


def build(page: Page) -> Callable[[], None]:
    """Lay out the step; the function it returns wires it, once every step is laid out."""
    with gr.Column(elem_id="panel-model", elem_classes="step"):
        html(markup.lead("Which model starts from what it already knows?", "Small ones are a good first try."))
        short = html(_short(FIRST, usual(FIRST)), js_on_load=markup.CARDS, elem_id="models")
        with gr.Accordion("Search the Hub, or name a model yourself", open=False, elem_classes="fold"):
            with gr.Row(elem_classes="inline"):
                words = gr.Textbox(label="Search models", placeholder="bert, vit, dutch, owner/name", scale=4,
                                   elem_id="model-search")  # fmt: skip
                fits = gr.Checkbox(label="Made for the task", value=False, scale=1, min_width=140)
            found = html(js_on_load=markup.CARDS)
            with gr.Row():
                model = gr.Textbox(usual(FIRST), label="Model", info="A Hub id, a sample, or a folder", scale=3,
                                   min_width=200, elem_id="model")  # fmt: skip
                revision = gr.Textbox(label="Revision", info="Branch, tag or commit", scale=1, min_width=150)
        about = html(elem_id="model-about")
        html(markup.title("How it is adapted"))
        cards = html(_methods(catalog.USUAL), js_on_load=markup.CARDS, elem_id="methods")
        with gr.Row():
            method = gr.Dropdown(form.method_names(), value=catalog.USUAL, label="Method", min_width=150,
                                 elem_id="method", info="All of them, by name")  # fmt: skip
            epochs = gr.Textbox(label="Epochs", info="Times through the rows", placeholder="by rule", min_width=130,
                                elem_id="epochs")  # fmt: skip
            rate = gr.Textbox(
                label="Learning rate", info="How far a step goes", placeholder=_rate(catalog.USUAL), min_width=130
            )
            batch = gr.Textbox(label="Batch size", info="Rows of one step", placeholder="by rule", min_width=130)
            seed = gr.Textbox(label="Seed", info="Of all that is drawn", placeholder="42", min_width=110)
        minutes = gr.Radio(TIMES, value="", label="Time for auto", info="Of training, at most", elem_id="minutes",
                           elem_classes="segmented")  # fmt: skip
        with gr.Accordion("Every other option", open=False, elem_classes="fold"):
            listed = say(
                "Type a part of a name or of what it does. The list is read from TrainingArguments, peft and "
                "hftransfer as installed."
            )
            html(markup.small(listed))
            with gr.Row(elem_classes="inline"):
                option = gr.Dropdown(_option_choices(catalog.USUAL), value=None, label="Option", scale=4,
                                     min_width=220, elem_id="option")  # fmt: skip
                value = gr.Dropdown(
                    [], label="Value", allow_custom_value=True, scale=2, min_width=130, elem_id="value"
                )
                add = gr.Button("Set", scale=0, min_width=90)
            described = html(elem_id="described")
            page.more = gr.Dropdown([], value=[], multiselect=True, allow_custom_value=True, label=OWN,
                                    info="As on the command line; a cross removes one", elem_id="more")  # fmt: skip
            processes = gr.Number(
                1, label="Processes", precision=0, minimum=1, visible=page.settings.processes_per_run != 1,
                info="That train together, on several GPUs or cores", elem_classes="narrow",
            )  # fmt: skip
        page.go["processes"] = processes
        with gr.Column(elem_classes="card-block"):
            cost = html(_no_estimate(), elem_id="estimate")
            measure = gr.Button("Measure what it will cost", elem_classes="narrow")
        code = _code()
        with gr.Row(elem_classes="foot"):
            gr.Button("Back", variant="secondary").click(None, js="() => hftransfer.go('data')")
            gr.Button("Next: train", variant="primary").click(None, js="() => hftransfer.go('train')")

    page.estimate = gr.State(None)
    page.widgets |= {
        "model": model, "revision": revision, "method.name": method, "train.num_train_epochs": epochs,
        "auto.minutes": minutes, "train.learning_rate": rate, "train.per_device_train_batch_size": batch, "seed": seed,
    }  # fmt: skip

    def wire() -> None:
        task = page.widgets["task"]

        page.on(task.change, changed, [model, task, method], [short, cards, method, model])

        def tell_at(event: Any) -> None:
            page.on(event, partial(tell, page), [model, revision, task, method], [about, cards], turn="model",
                    meanwhile=(about, LOOKING), trigger_mode="always_last")  # fmt: skip

        for event in (short.click, found.click):
            picked = page.on(event, pick, [task], [model, revision], picks=True, meanwhile=(about, LOOKING))
            tell_at(picked.success)
        tell_at(model.submit)

        page.on(words.submit, searched, [words, fits, task, model], [found], turn="models",
                meanwhile=(found, "Asking the Hub …"))  # fmt: skip

        page.on(cards.click, lambda visitor, picked: picked, [], [method], picks=True)

        page.on(method.change, of_method, [method, page.more, task], [cards, option, page.more, rate])

        page.on(option.input, describe, [option, method], [described, value])

        page.on(add.click, set_option, [option, value, page.more], [page.more, option, value, described])

        page.on(measure.click, partial(estimated, page), page.inputs, [cost, page.estimate],
                meanwhile=(cost, "Training a few real steps on this machine …"))  # fmt: skip
        page.on(page.go["measure"].click, partial(measured, page), page.inputs,
                [page.go["ready"], cost, page.estimate],
                meanwhile=(page.go["ready"], "Training a few real steps on this machine …"))  # fmt: skip
        page.on_form(partial(still, page), [page.estimate, *page.inputs], [cost, page.estimate],
                     also=[page.estimate.change])  # fmt: skip

        page.on_form(partial(as_code, page), page.inputs, [code.yaml, code.command, code.python],
                     also=[code.fold.expand])  # fmt: skip

        page.on_download(code.download, partial(offer, page), page.inputs)

        then_look = page.go["then_look"]  # the rows of the step before are those of another source
        then_look(page.on(code.apply.click, partial(fill, page), [code.yaml], page.inputs))
        for event in (code.take.click, code.repo.submit):
            then_look(page.on(event, partial(taken, page), [code.repo], page.inputs))

    return wire


@dataclass(frozen=True)
class Code:
    """The widgets that show the form as text, and fill it from one."""

    fold: Any
    yaml: Any
    command: Any
    python: Any
    download: Any
    apply: Any
    repo: Any
    take: Any


def _code() -> Code:
    """Lay out the form as a configuration, as a command and as Python."""
    with gr.Accordion("The same as code", open=False, elem_classes="fold") as fold:
        with gr.Tabs():
            with gr.Tab("Configuration"):
                yaml = gr.Code(language="yaml", label="config.yaml", interactive=True, lines=8, elem_id="yaml")
                with gr.Row(elem_classes="foot"):
                    download = gr.DownloadButton("Download", size="sm", elem_id="yaml-file")
                    apply = gr.Button("Fill the form from this text", size="sm")
            with gr.Tab("Command"):
                command = gr.Code(language="shell", label="what Start runs", interactive=False, lines=3)
            with gr.Tab("Python"):
                python = gr.Code(language="python", label="the same in Python", interactive=False, lines=8)
        with gr.Row(elem_classes="inline"):
            repo = gr.Textbox(label="Or take the settings of a published model",
                              placeholder="owner/name on the Hub", scale=4, elem_id="from-repo")  # fmt: skip
            take = gr.Button("Take", scale=0, min_width=90)
    return Code(fold, yaml, command, python, download, apply, repo, take)


def pick(visitor: Visitor, picked: str, chosen: str) -> list[Any]:
    """Take a model for the form; a sample is fetched where it is not here."""
    if picked.startswith(samples.PREFIX):
        one = samples.SAMPLES[picked.removeprefix(samples.PREFIX)]
        if not one.present:
            visitors.require(visitor)  # it costs a download and disk
            fetch(one.name, visitor)
    return [picked, ""]


def tell(page: Page, visitor: Visitor, name: str, at: str, chosen: str, way: str) -> list[str]:
    """Say what is known of a model, and show the methods that can adapt it."""
    if not name:
        return ["", _methods(way, chosen)]
    answer = page.workers.call(visitor, "model", model=name, revision=at or None, task=chosen)
    return [_about(name, answer), _methods(way, chosen, answer.get("linear", True))]


def changed(visitor: Visitor, name: str, chosen: str, way: str) -> list[Any]:
    """Show the models and methods of another task; what does not fit it gives way."""
    names = form.method_names(chosen)
    fit = way if way in names else catalog.USUAL
    kept = name if name and not is_proposed(name) else usual(chosen)
    # a name that stays is left alone: whoever cleared it meanwhile does not get it back
    return [
        _short(chosen, kept), _methods(fit, chosen), gr.update(choices=names, value=fit),
        gr.skip() if kept == name else kept,
    ]  # fmt: skip


def searched(visitor: Visitor, text: str, fit: bool, chosen: str, name: str) -> str:
    """Search models of the Hub."""
    with LINE.turn(visitor):
        results = search.models(text, chosen if fit else None, visitor.token)
    return search.shown(results, name, say("Models on the Hub"))


def of_method(visitor: Visitor, chosen: str, lines: Sequence[str], for_task: str) -> list[Any]:
    """Show what a method takes; options of another one are dropped."""
    known = form.options(chosen)
    kept = [line for line in lines if not line.startswith("method.") or line.partition("=")[0] in known]
    return [
        _methods(chosen, for_task), gr.update(choices=_option_choices(chosen), value=None),
        # what a form that is being filled holds has not all arrived when this is asked: nothing is put back
        gr.skip() if kept == list(lines or ()) else gr.update(value=kept),
        gr.update(placeholder=_rate(chosen)),
    ]  # fmt: skip


def describe(visitor: Visitor, path: str | None, chosen: str) -> list[Any]:
    """Say what an option takes and does."""
    one = form.options(chosen).get(path or "")
    if one is None:
        return ["", gr.update(choices=[], value=None)]
    words = f"<b>{markup.text(one.path)}</b>: {markup.text(one.wants)}. {markup.text(one.about, 900)}"
    return [
        f'<p class="quiet small">{words}</p>',
        gr.update(choices=list(one.choices), value=one.default or None),
    ]


def set_option(visitor: Visitor, path: str | None, text: Any, lines: Sequence[str]) -> list[Any]:
    """Add an option to the settings."""
    if not path:
        raise UserError("an option is needed", "none is chosen", "Pick one from the list first.")
    more = form.with_option(lines or [], path, str(text or ""))
    return [gr.update(value=more, choices=more), gr.update(value=None), gr.update(value=None, choices=[]), ""]


def estimated(page: Page, visitor: Visitor, *values: Any) -> list[Any]:
    """Measure what the form's run would take."""
    tree = page.tree(values)
    try:
        rules.admit(visitor, tree, page.settings)
        answer = page.workers.call(visitor, "estimate", tree=tree)
    except UserError as error:
        return [markup.note(str(error), "bad"), None]
    return [_estimate(answer), {"tree": tree, "answer": answer}]


def measured(page: Page, visitor: Visitor, *values: Any) -> list[Any]:
    """Measure the same from the bar with the button that trains, and say it beside that button."""
    tree = page.tree(values)
    if unready := train_step.missing(tree):
        return [markup.note(unready, "bad"), gr.skip(), gr.skip()]
    cost, known = estimated(page, visitor, *values)
    if known is None:
        return [cost, cost, None]
    source, model, way = (_chosen(tree, *path) for path in CHOSEN)
    said = ready_of(page, visitor, tree["task"], source, model, way, known)
    return [said, cost, known]


CHOSEN = (("data", "source"), ("model",), ("method", "name"))  # of a configuration, what the bar names


def _chosen(tree: Mapping[str, Any], *path: str) -> str:
    found: Any = tree
    for name in path:
        found = found.get(name) or {}
    return str(found or "")


def still(page: Page, visitor: Visitor, known: Any, *values: Any) -> list[Any]:
    """Take back what was measured once the form says something else."""
    if not known or known["tree"] == page.tree(values):
        return [gr.skip(), gr.skip()]
    return [_no_estimate(), None]


def as_code(page: Page, visitor: Visitor, *values: Any) -> list[Any]:
    """Return the form as YAML, as a command and as Python."""
    tree = page.tree(values)
    return [form.yaml_of(tree), form.command_of(tree), form.python_of(tree)]


def offer(page: Page, visitor: Visitor, *values: Any) -> str:
    """Write the form as a file and return its place."""
    path = received.place("config.yaml")
    path.write_text(f"# {form.cli_of()}\n{form.yaml_of(page.tree(values))}", encoding="utf-8")
    return str(path)


def fill(page: Page, visitor: Visitor, text: str) -> list[Any]:
    """Fill the form from YAML."""
    return page.filled(rules.read(text or ""))


def taken(page: Page, visitor: Visitor, name: str) -> list[Any]:
    """Fill the form with the settings of a published model."""
    tree = page.workers.call(visitor, "settings", repo=(name or "").strip())
    return page.filled(rules.small(tree))


def _rate(method: str) -> str:
    return say("measured") if method == catalog.USUAL else say("by rule")


def _option_choices(method: str) -> list[tuple[str, str]]:
    return [(one.label, path) for path, one in sorted(form.options(method).items())]


def _short(task: str, chosen: str | None) -> str:
    cards = [
        Card(f"{samples.PREFIX}{one.name}", one.name, retold(one.about), (
            (say("sample"), ""), (f"{one.size / 1e6:.0f} MB", ""), (one.licence.split(",")[0], ""),
            presence(one.present),
        ))
        for one in sample_models(task)
    ]  # fmt: skip
    cards += [
        Card(known.repo, known.repo.split("/")[1], retold(known.about), (
            (say("{n} parameters", n=known.parameters), ""), (known.licence, ""), ("Hub", ""),
        ))
        for known in catalog.task(task).known_models
    ]  # fmt: skip
    return markup.cards(cards, chosen, "Recommended models", wide=True)


def _methods(chosen: str, task: str | None = None, linear: bool = True) -> str:
    """Return the methods for most people; of a model without linear layers none that would wrap them."""
    names = [name for name in form.method_names(task) if name in form.WORDS]
    names = [name for name in names if linear or catalog.methods()[name] != catalog.PEFT]
    return markup.cards([Card(name, name, form.about_method(name)) for name in names], chosen, "Methods")


def _about(name: str, answer: dict[str, Any]) -> str:
    parameters = answer.get("parameters")
    pairs = [
        ("Model", name.removeprefix(samples.PREFIX)), ("Architecture", str(answer.get("architecture") or "")),
        ("Parameters", markup.short_count(parameters)), ("Weights", markup.size(answer.get("size_mb"))),
        ("Longest input", f"{answer['longest']:,}| {say('tokens')}" if answer.get("longest") else ""),
        ("Licence", str(answer.get("license") or "")),
    ]  # fmt: skip
    labels = answer.get("labels") or []
    words = []
    if labels:
        words = [say("It answers with its own {n} labels so far; training gives it yours.", n=len(labels))]
    if not answer.get("linear", True):
        words.append(say("Low-rank methods (lora and its kin) have nothing to wrap in it: auto trains all of it."))
    return f'<div class="card-block" style="padding:18px 22px">{markup.facts(pairs)}</div>' + markup.note(words)


def _no_estimate() -> str:
    words = say("A few real steps on this machine tell how long training takes and how much memory it needs.")
    return markup.title("Cost") + f'<p class="quiet" style="margin:0">{words}</p>'


def _estimate(answer: dict[str, Any]) -> str:
    pairs = [
        ("Training takes about", markup.roughly(answer["seconds"])), ("Memory", markup.size(answer.get("memory_mb"))),
        ("One step", f"{answer['step_seconds']:.2f} s" if answer.get("step_seconds") else ""),
        ("Steps", markup.count(answer.get("steps"))),
    ]  # fmt: skip
    warnings = markup.warnings(answer.get("warnings", []))
    words = markup.small(say("Measured just now; what it really took stands beside it afterwards."))
    tells = markup.note(answer.get("resolution", []))
    return markup.title("Cost") + markup.facts(pairs) + words + tells + warnings
