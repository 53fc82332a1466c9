"""What the six steps share: the widgets of the configuration, the run in view, and how handlers are called."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.tasks.base import Role
from hftransfer.ui import form, markup, saying, visitors
from hftransfer.ui.awaited import Meanwhile, Turns, saying_first
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.queueing import Queue
from hftransfer.ui.saying import retold, say
from hftransfer.ui.settings import Settings
from hftransfer.ui.workers import Workers
from hftransfer.yaml_core import written

ROLES = max(len(catalog.task(name).roles) for name in catalog.tasks())
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


@dataclass
class Page:
    """One page: its widgets by the path that they set, and what works behind it."""

    settings: Settings
    queue: Queue
    workers: Workers
    monitor: Monitor
    widgets: dict[str, Any] = field(default_factory=dict)  # of form.BASIC, all but data.columns
    roles: list[gr.Dropdown] = field(default_factory=list)  # data.columns, in the order of the task's roles
    more: Any = None  # gr.Dropdown of `a.b=value` lines
    blocks: Any = None  # gr.Blocks, which knows its address once it is served
    run: Any = None  # gr.Dropdown: the run that is looked at
    estimate: Any = None  # gr.State: {tree, answer} of the last estimate
    turns: Turns = field(default_factory=Turns)
    settled: list[Any] = field(default_factory=list)  # what changes once the form has come to rest; one per handler
    go: dict[str, Any] = field(default_factory=dict)  # components that more than one step writes to, by name
    _changes: Iterator[int] = field(default_factory=itertools.count)

    # --- handlers ---

    def on(
        self, event: Any, do: Callable[..., Any], inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), *,
        picks: bool = False, meanwhile: Meanwhile | None = None, turn: str = "", outdates: str = "",
        **options: Any,
    ) -> Any:  # fmt: skip
        """Call `do(visitor, *inputs)` on an event; with `picks`, `do(visitor, picked, *inputs)` for a click on cards.

        A UserError becomes a message on the page. No handler is an endpoint for programs. Where `do` is a generator,
        the page shows each of its answers as it comes. What is said `meanwhile` comes before the answer by the same
        way, so that it never comes behind it: an event has no second handler that writes there. Of questions of one
        `turn` only the last one of a browser is answered on the page; what `outdates` a turn makes those before it be
        dropped, and is itself always answered: it says what somebody chose.

        What changes may have several handlers, and a browser that waits with two of them ("always_last", Gradio's own
        way for changes) has each call the other again without end. So each change is asked about at once, in a turn.
        """
        words, outputs = {**QUIET, **options}, list(outputs)
        if any(getattr(one, "event_name", "") == "change" for one in words.get("triggers", [event])):
            words = {"trigger_mode": "multiple", **words}
            turn = turn or f"change {next(self._changes)}"
        if meanwhile:
            do, outputs = saying_first(do, meanwhile, outputs)
        handler = self._handler(do, picks, (turn, outdates), len(outputs))
        if inspect.isgeneratorfunction(do.func if isinstance(do, functools.partial) else do):
            handler = _one_by_one(handler)
        return event(fn=handler, inputs=list(inputs), outputs=outputs or None, **words)

    def on_form(
        self, do: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], also: Sequence[Any] = ()
    ) -> None:
        """Call `do(visitor, *inputs)` whenever the form was changed and has come to rest, and on the events of `also`.

        One change of somebody's may set twenty fields; the handler is called once, and never twice at the same time.
        """
        # "hidden" is on the page, unlike False: what is not there tells of no change
        rest = gr.Textbox(visible="hidden", label="Edition of the form", elem_classes="settled")
        self.settled.append(rest)
        self.on(gr.on, do, inputs, outputs, triggers=[rest.change, *also], trigger_mode="always_last")

    def on_download(self, button: Any, do: Callable[..., Any], inputs: Sequence[Any]) -> None:
        """Hand over the file that `do(visitor, *inputs)` writes at a click on a gr.DownloadButton.

        Gradio's button alone hands over what it held before the click: nothing the first time, an older file after.
        """
        button.click(None, js=f"() => hftransfer.writing('{button.elem_id}')")
        written = self.on(button.click, do, inputs, [button])
        written.then(None, [button], [button], js=f"(file) => hftransfer.written('{button.elem_id}', file)")

    def tell_settled(self) -> None:
        """Tell the handlers of `on_form` of changes; once all of them are known."""
        gr.on([widget.change for widget in self.inputs], None, None, self.settled,
              js=f"() => hftransfer.settled({len(self.settled)})")  # fmt: skip

    def _handler(
        self, do: Callable[..., Any], picks: bool, turns: tuple[str, str], outputs: int
    ) -> Callable[..., Any]:
        settings = self.settings

        def answer(request: Any, profile: Any, token: Any, picked: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
            language = saying.of_request(request)
            asked = self.turns.ask(str(request.session_hash), *turns)
            with saying.spoken(language):
                try:
                    told = do(visitors.of(request, profile, token, settings), *picked, *values)
                except UserError as error:
                    raise as_message(error) from error
            if inspect.isgenerator(told):
                return saying.throughout(language, asked.each(told, outputs) if asked else told)
            return asked.of(told, outputs) if asked else told

        # on a Space Gradio hands over who signed in; elsewhere asking for it would start a mocked sign-in
        if settings.space and picks:

            def of_space_pick(
                request: gr.Request, profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
                event: gr.EventData, *values: Any,
            ) -> Any:  # fmt: skip
                return answer(request, profile, token, (event._data["pick"],), values)

            return of_space_pick
        if settings.space:

            def of_space(
                request: gr.Request, profile: gr.OAuthProfile | None, token: gr.OAuthToken | None, *values: Any
            ) -> Any:
                return answer(request, profile, token, (), values)

            return of_space
        if picks:

            def of_pick(request: gr.Request, event: gr.EventData, *values: Any) -> Any:
                return answer(request, None, None, (event._data["pick"],), values)

            return of_pick

        def of_laptop(request: gr.Request, *values: Any) -> Any:
            return answer(request, None, None, (), values)

        return of_laptop

    # --- the configuration ---

    @property
    def inputs(self) -> list[Any]:
        """The widgets of the configuration, in the order that `tree` takes their values."""
        return [*self.widgets.values(), *self.roles, self.more]

    def tree(self, values: Sequence[Any]) -> form.Tree:
        """Return the configuration that the values of `inputs` describe."""
        count = len(self.widgets)
        found = dict(zip(self.widgets, values[:count], strict=True))
        names = role_names(found.get("task"))
        found["data.columns"] = dict(zip(names, values[count : count + len(names)], strict=False))
        return form.tree_of(found, values[-1] or ())

    def filled(self, tree: Mapping[str, Any]) -> list[Any]:
        """Return the values of `inputs` that describe this configuration."""
        values, more = form.values_of(tree)
        columns = values.get("data.columns") or {}
        names = role_names(values.get("task"))
        roles = []
        for place in range(ROLES):
            name = names[place] if place < len(names) else None
            roles.append(role_update(values.get("task"), place, columns.get(name) if name else None))
        found = []
        for path, widget in self.widgets.items():
            value, known = _as_offered(widget, values.get(path))
            found.append(value)
            more += [] if known else [f"{path}={written(values[path])}"]
        return [*found, *roles, gr.update(value=more, choices=more)]


def _as_offered(widget: Any, value: Any) -> tuple[Any, bool]:
    """Return a value as a widget holds it, and whether it can: of some that are offered, the one that says the same.

    Gradio answers nothing any more to a page one of whose choices is none that it offered.
    """
    if not isinstance(widget, gr.Radio):
        return value, True
    offered = {form.number_of(one): one for _, one in widget.choices}
    sought = form.number_of("" if value is None else value)
    return offered.get(sought, offered.get("")), sought in offered or value is None


def _one_by_one(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler whose answer is a generator as one that Gradio knows to be such."""

    @functools.wraps(handler)  # Gradio reads its parameters' types
    def each(*values: Any) -> Any:
        try:
            yield from handler(*values)
        except UserError as error:
            with saying.spoken(saying.of_request(values[0])):  # of every handler the first value is the request
                raise as_message(error) from error

    return each


def html(value: str = "", js_on_load: str | None = None, **options: Any) -> gr.HTML:
    """Return a piece of the page in our own styles alone; clicks on it mean something only with `js_on_load`."""
    return gr.HTML(value, js_on_load=js_on_load, apply_default_css=False, **options)


def _roles(task: Any) -> tuple[Role, ...]:
    """Return the roles that columns of this task's data play; none where rows are made of what people had."""
    known = catalog.task(task) if task in catalog.tasks() else None
    return () if known is None or known.reads == "interactions" else known.roles


def role_names(task: Any) -> list[str]:
    """Return the names of these roles."""
    return [role.name for role in _roles(task)]


def role_update(
    task: Any,
    place: int,
    column: Any = None,
    columns: Sequence[str] = (),
    guess: str | None = None,
    parts: Sequence[str] = (),
) -> Any:
    """Return what the drop-down of the role at `place` shows for this task; empty means: found by itself.

    `parts` are columns that say of a label each whether a row has it: together they are offered for the truth.
    """
    roles = _roles(task)
    if place >= len(roles):
        return gr.update(visible=False, value="", choices=[])
    role = roles[place]
    name = retold(role.name.replace("_", " ").capitalize())
    label = name if role.required else say("{role} (optional)", role=name)
    found = say("{column} (found by itself)", column=guess) if guess else say("found by itself")
    automatic = found if guess or role.required else say("none")
    chosen = form.several(column) if isinstance(column, list | tuple) else column or ""
    together = [form.several(parts)] if parts and role.answer else []
    values = dict.fromkeys([*columns, *together, *([chosen] if chosen else [])])
    choices = [(automatic, ""), *((form.as_words(one), one) for one in values)]
    return gr.update(visible=True, label=label, info=retold(role.about.capitalize()), value=chosen, choices=choices)


def as_message(error: UserError) -> gr.Error:
    """Return what the page shows for something that the user can mend."""
    words = markup.text(error, 1500).replace("\n", "<br>")
    return gr.Error(words, duration=15, print_exception=False)
