"""Fill the generated blocks of README.md and docs/ from the code. Run: python docs/generate.py [--check]"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hftransfer import answers, catalog, samples
from hftransfer.answers.base import Answer
from hftransfer.cli.parser import make_parser
from hftransfer.config import RunConfig
from hftransfer.config.meanings import KEYS
from hftransfer.launchers import launcher, launchers
from hftransfer.methods.peft import ALIASES
from hftransfer.ui import settings
from hftransfer.upstream.options import peft_methods

ROOT = Path(__file__).resolve().parents[1]
OPENING = r"<!-- generated: (?P<name>[\w-]+)(?: (?P<argument>\S+))? -->\n"
BLOCK = re.compile(rf"(?P<opening>{OPENING})(?P<body>.*?)(?P<closing><!-- /generated -->)", re.DOTALL)
TAGS = ("O", "B-X", "I-X")  # entity tags: those for which every metric of tags is defined


def main(arguments: list[str] | None = None) -> int:
    """Write every page whose blocks are stale, or with --check name them; return 1 when --check found one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a block is stale")
    options = parser.parse_args(arguments)
    stale = [page for page in pages() if fill(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(f"{page.relative_to(ROOT)} {'is stale: run python docs/generate.py' if options.check else 'written'}")
        if not options.check:
            page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")
    return int(options.check and bool(stale))


def pages() -> list[Path]:
    """Return the pages that may hold blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fill(text: str) -> str:
    """Return a page with what stands between the marks of each block made anew; ValueError for a broken block."""
    whole = len(BLOCK.findall(text))
    if (text.count("<!-- generated"), text.count("<!-- /generated")) != (whole, whole):
        raise ValueError("a block is <!-- generated: NAME --> on a line of its own, then <!-- /generated -->")
    return BLOCK.sub(_filled, text)


def _filled(match: re.Match[str]) -> str:
    arguments = [match["argument"]] if match["argument"] else []
    return f"{match['opening']}{BLOCKS[match['name']](*arguments)}\n{match['closing']}"


def table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(names: Any) -> str:
    """Return names as inline code, joined by commas."""
    return ", ".join(f"`{name}`" for name in names)


# --- tasks ---


def tasks() -> str:
    """One row a task: input columns, kinds of labels, and the metric that chooses the best checkpoint."""
    rows = []
    for name in catalog.tasks():
        task = catalog.task(name)
        inputs = [f"`{r.name}`" + ("" if r.required else " (optional)") for r in task.shown]
        kinds = [answer.kind for answer in task.answers]
        chosen = dict.fromkeys(f"`{_learnt(answer).selects_by}`" for answer in task.answers)
        rows.append((f"[{name}]({_link(name)})", task.about, ", ".join(inputs), code(kinds), ", ".join(chosen)))
    return table(("task", "what it is", "columns", "answers", "best checkpoint by"), rows)


def _link(name: str) -> str:
    return f"docs/tasks/{name}.md"


def _learnt(answer: Answer[Any]) -> Answer[Any]:
    """Return an answer as rows would teach it, with classes where it has any, and rows without an answer."""
    names = TAGS if answer.kind == "tags" else ("a", "b", "c")
    return answers.restore({**answer.to_dict(), "names": names, "unanswerable": 1})


def _of_tasks(kind: str) -> dict[str, Answer[Any]]:
    """Return the answers of a kind by the tasks that have them."""
    found = {name: answer for name in catalog.tasks() for answer in catalog.task(name).answers if answer.kind == kind}
    return {name: _learnt(answer) for name, answer in found.items()}


def task(name: str) -> str:
    """The columns and the metrics of one task."""
    found = catalog.task(name)
    columns = [
        (f"`{role.name}`" + ("" if role.required else " (optional)"), role.about, code(role.words))
        for role in found.roles
    ]
    metrics = [
        (f"`{answer.kind}`", f"`{answer.main_metric}`", f"`{answer.selects_by}`", code(answer.default_metrics))
        for answer in map(_learnt, found.answers)
    ]
    return "\n\n".join(
        [
            table(("column", "holds", "names looked for, in this order"), columns),
            f"Auto classes: `{found.auto_model}` and `{found.auto_processor}`.",
            table(("answers", "main metric", "best checkpoint by", "measured"), metrics),
        ]
    )


def stranger(words: str) -> str:
    """The lines that ask a published model of a task that transformers has no pipeline for; `NAME:WAY`."""
    name, _, way = words.partition(":")
    task = catalog.task(name)
    notes = {"answer": _learnt(task.answers[0]).to_dict() | ({way: True} if way else {})}
    row = {role.name: role.takes.example if role.asks and role.takes else '"..."' for role in task.shown}
    lines = task.snippet('"you/your-model"', row, notes)
    return f"```python\n{lines}\n```"


# --- methods ---

UNMERGED = ("lily", "poly", "shadow")  # their merge() raises in peft 0.21, which only an adapted model can tell
METHOD_NOTES = {
    "adalora": "needs `method.total_step`; its ranks are not pruned: peft cannot load a pruned checkpoint again",
    "qlora": "the base in 4 bits; needs `bitsandbytes`",
    **dict.fromkeys(UNMERGED, "refused: peft cannot merge it"),
}


def methods() -> str:
    """The methods in one sentence each, and the names that peft gives."""
    own = [name for name, module in catalog.methods().items() if module != catalog.PEFT]
    kin = [name for name in catalog.adapting_methods() if name not in {*own, *ALIASES, *UNMERGED}]
    lines = [f"* `{name}`: {catalog.method(name).about}." for name in own]
    lines.append(f"* peft's methods, each by its own name and options: {code(kin)}.")
    lines.append(f"* usual names for some settings of LoRA: {code(ALIASES)}.")
    return "\n".join(lines)


def method_table() -> str:
    """One row a method name, with the class whose options it takes."""
    tested = _tested_methods()
    rows = []
    for name in catalog.adapting_methods():
        if name in ALIASES:
            options = {key: value for key, value in ALIASES[name].items() if key != "peft_type"}
            settings = ", ".join(f"`{key}={json.dumps(value)}`" for key, value in options.items())
            takes = "`LoraConfig`" + (f" with {settings}" if settings else "")
        elif name in peft_methods():
            takes = f"`{peft_methods()[name][0]}`"
        else:
            takes = "this page"
        rows.append((f"`{name}`", takes, "yes" if name in tested else "", METHOD_NOTES.get(name, "")))
    return table(("method.name", "options of", "in the tests' table", "note"), rows)


def refused_methods() -> str:
    """The names of peft that can give no plain model."""
    return code(name for name in catalog.methods() if name not in catalog.adapting_methods())


def _tested_methods() -> set[str]:
    tree = ast.parse((ROOT / "tests/engine/test_methods.py").read_text(encoding="utf-8"))
    values = [
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METHODS"
    ]
    return {
        key.value
        for value in values
        if isinstance(value, ast.Dict)
        for key in value.keys
        if isinstance(key, ast.Constant)
    }


# --- metrics ---


def metrics() -> str:
    """One row a metric: labels it fits, where it is measured without being asked for, direction, interval."""
    rows = []
    for name, metric in answers.metrics().items():
        kinds = _kinds_of(name)
        default = [part for kind in kinds for part in _measuring(name, kind)]
        direction = "higher" if metric.greater_is_better else "lower"
        rows.append((f"`{name}`", metric.about, code(kinds), code(default), direction, _interval(name)))
    return table(("metric", "what it is", "answers", "by default for", "better", "interval"), rows)


def _measuring(metric: str, kind: str) -> list[str]:
    """Return the kind where all of its tasks measure a metric unasked, else those tasks that do."""
    found = _of_tasks(kind)
    measuring = [name for name, answer in found.items() if metric in answer.default_metrics]
    return [kind] if len(measuring) == len(found) else measuring


def _kinds_of(metric: str) -> list[str]:
    """Return the kinds that a metric fits, in the order in which tasks name them."""
    named = dict.fromkeys(answer.kind for name in catalog.tasks() for answer in catalog.task(name).answers)
    return [kind for kind in named if kind in answers.kinds_of(metric)]


def _interval(name: str) -> str:
    kinds = _kinds_of(name)
    found = {kind: answers.of(kind).METRICS[name] for kind in kinds}
    shares = [kind for kind, metric in found.items() if metric.is_share or metric.closed is not None]
    rest = "bootstrap spread" if answers.metrics()[name].recentred else "BCa"
    if not shares:
        return rest
    return "Wilson" if len(shares) == len(kinds) else f"Wilson for {code(shares)}, else {rest}"


# --- configuration ---

# values that the files of a package make, and no annotation spells out
CLOSED = {"data.problem_type": " or ".join(f"`{kind}`" for kind in catalog.problem_types())}
TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true, false",
    "array": "list",
    "object": "map",
}


def config() -> str:
    """One row a key of RunConfig: its type, default and meaning."""
    schema = RunConfig.model_json_schema()
    keys = dict(_keys(schema, schema["$defs"]))
    if keys.keys() != KEYS.keys():
        raise ValueError(f"KEYS and RunConfig differ in {sorted(keys.keys() ^ KEYS.keys())}")
    return table(
        ("key", "value", "default", "meaning"),
        [(f"`{key}`", CLOSED.get(key) or _type(field), _default(field), KEYS[key]) for key, field in keys.items()],
    )


def _keys(node: dict[str, Any], sections: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in node["properties"].items():
        parts = [field, *field.get("anyOf", [])]
        inner = next((sections[part["$ref"].rpartition("/")[2]] for part in parts if "$ref" in part), None)
        if inner is None or "anyOf" in field:  # a section that may be absent is a value too
            yield prefix + name, field | {"required": name in node.get("required", ())}
        if inner is not None:
            yield from _keys(inner, sections, f"{prefix}{name}.")


def _type(field: dict[str, Any]) -> str:
    found = []
    for part in field.get("anyOf", [field]):
        values = part.get("enum", [part["const"]] if "const" in part else [])
        kind = "map" if "$ref" in part else TYPES.get(part.get("type", ""), "")
        found += [f"`{value}`" for value in values] or ([kind] if kind else [])
    return " or ".join(dict.fromkeys(found))


def _default(field: dict[str, Any]) -> str:
    if field["required"]:
        return "needed"
    value = field.get("default")
    return "" if value in (None, [], {}) else f"`{json.dumps(value)}`".replace('"', "")


# --- command line ---


def commands() -> str:
    """One row a command."""
    found = [(f"`{_usage(parser)}`", about) for _, about, parser in _commands()]
    return table(("command", "what it does"), found)


def command_line() -> str:
    """Every command with its arguments."""
    sections = []
    for name, about, parser in _commands():
        rows = [
            (f"`{_argument(action)}`", (action.help or "").removesuffix(" (default: True)"))
            for action in _actions(parser)
        ]
        sections += [f"### {name}\n\n`{_usage(parser)}`: {about}.", table(("argument", "meaning"), rows)]
    return "\n\n".join(section for section in sections if not section.endswith("--- |"))


# argparse has no public list of what a parser takes, and words its help differently from one Python to the next


def _commands() -> list[tuple[str, str, argparse.ArgumentParser]]:
    parser = make_parser()
    (group,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    abouts = {choice.dest: choice.help or "" for choice in group._choices_actions}
    return [(name, abouts[name], found) for name, found in group.choices.items()]


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help"]


def _usage(parser: argparse.ArgumentParser) -> str:
    words = [
        _argument(action) if action.required or not action.option_strings else f"[{_argument(action)}]"
        for action in _actions(parser)
    ]
    return " ".join([parser.prog, *sorted(words, key=lambda word: word.startswith("[-"))])


def _argument(action: argparse.Action) -> str:
    if not action.option_strings:
        return {"*": f"[{action.metavar} ...]", "+": f"{action.metavar} [...]", "?": f"[{action.metavar}]"}.get(
            str(action.nargs), str(action.metavar)
        )
    value = action.metavar or "|".join(action.choices or ())
    return "/".join(action.option_strings) + (f" {value}" if value else "")


# --- files ---

TOP = {
    "README.md": "This page",
    "Makefile": "demo, test, lint, docs, bench, clean",
    "pyproject.toml": "Package, dependencies, and the settings of ruff, mypy, pytest and import-linter",
    "constraints.txt": "Exact versions that the tests ran with",
    "configs/": "A runnable configuration for each task and method; accelerate/ holds launch settings",
    "benchmarks/": "What the figures in docs/benchmarks.md come from: make bench",
    "docs/": "The pages linked below, and generate.py, which fills their generated blocks",
    "tests/": "unit (no model), engine (tiny models), launch (real processes)",
}


def tree() -> str:
    """One line a folder, with the first line of its docstring."""
    package = ROOT / "hftransfer"
    entries = [*TOP.items(), ("hftransfer/", _about(package / "__init__.py"))]
    entries += [(f"  {path.parent.name}/", _about(path)) for path in sorted(package.glob("*/__init__.py"))]
    return _aligned(entries)


def modules() -> str:
    """One line a file of the package, with the first line of its docstring."""
    entries = [("hftransfer/", _about(ROOT / "hftransfer/__init__.py"))]
    for path in sorted((ROOT / "hftransfer").rglob("*.py"), key=_files_first):
        inner = path.relative_to(ROOT / "hftransfer")
        if path.name != "__init__.py":
            entries.append((f"{'  ' * len(inner.parts)}{path.name}", _about(path)))
        elif len(inner.parts) > 1:
            entries.append((f"  {inner.parent}/", _about(path)))
    return _aligned(entries)


def _aligned(entries: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in entries) + 2
    return "\n".join(["```", *(f"{name:{width}}{about}".rstrip() for name, about in entries), "```"])


def _files_first(path: Path) -> tuple[Any, ...]:
    inner = path.relative_to(ROOT / "hftransfer")
    return (*((True, part) for part in inner.parts[:-1]), (False, "" if path.name == "__init__.py" else path.name))


def _about(path: Path) -> str:
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return first.removesuffix(".")


def file(path: str) -> str:
    """A file of the repository as it stands."""
    return f"```{Path(path).suffix[1:]}\n{(ROOT / path).read_text(encoding='utf-8').rstrip()}\n```"


def accelerate() -> str:
    """One row a launch configuration, with what its comments say."""
    rows = []
    for path in sorted((ROOT / "configs/accelerate").glob("*.yaml")):
        comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        rows.append((f"[{path.name}](../configs/accelerate/{path.name})", " ".join(filter(None, comments[1:]))))
    return table(("file", "what it is, and whether it was run"), rows)


def places() -> str:
    """Each place with what it needs, and its options with their defaults."""
    found = [launcher(name) for name in launchers()]
    rows = [(f"`{place.name}`", place.about, place.needs) for place in found]
    options = [(place.name, *option) for place in found for option in place.Options.model_fields.items()]
    told = [(f"`{place}`", f"`{name}`", one.description or "", _told(one.default)) for place, name, one in options]
    first, second = ("place", "what it is", "needs"), ("of", "`--place`", "meaning", "default")
    return f"{table(first, rows)}\n\n{table(second, told)}"


def _told(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def sample_table() -> str:
    """One row a sample."""
    header = ("sample", "kind", "what it is", "from", "MB", "licence")
    rows = [
        (
            f"`{s.name}`",
            "model" if s.is_model else "data",
            f"{s.about} Keep together: `data.group={s.group}`." if s.group else s.about,
            ", ".join(str(package) for package in s.packages),
            f"{s.size / 1e6:.1f}",
            s.licence,
        )
        for s in samples.listing()
    ]
    groups = "; ".join(f"`{name}`: {', '.join(members)}" for name, members in samples.GROUPS.items())
    return f"{table(header, rows)}\n\nGroups: {groups}."


def limits() -> str:
    """The environment variables of the app, with their defaults."""
    rows = [(f"`{name}`", laptop, space, about) for name, laptop, space, about in settings.table()]
    return table(("variable", "on a laptop", "on a Space", "what it limits"), rows)


BLOCKS: dict[str, Callable[..., str]] = {
    "tasks": tasks,
    "task": task,
    "stranger": stranger,
    "methods": methods,
    "method-table": method_table,
    "refused-methods": refused_methods,
    "metrics": metrics,
    "config": config,
    "commands": commands,
    "command-line": command_line,
    "tree": tree,
    "modules": modules,
    "file": file,
    "accelerate": accelerate,
    "samples": sample_table,
    "places": places,
    "limits": limits,
}

if __name__ == "__main__":
    sys.exit(main())
