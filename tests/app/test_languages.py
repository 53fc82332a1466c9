"""The page's words: every one of them has its translation in each language's file, and none there is without use."""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from hftransfer import answers, catalog, evaluation, samples
from hftransfer.launchers import launcher, launchers
from hftransfer.ui import app, form, markup, page, places, saying, settings, spoken_page
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.queueing import Queue
from hftransfer.ui.workers import Workers

UI = Path(saying.__file__).parent
OTHERS = [name for name in saying.languages() if name != saying.ENGLISH]
LETTERS = re.compile("[A-Za-z]")
HAN = re.compile("[\u4e00-\u9fff]")
FIELD = re.compile(r"\{[^}]*\}")
# what draws words of ours, and which of its arguments holds them
SINKS = {"lead": (0, 1), "title": (0, 1), "small": (0,), "note": (0,), "empty": (0, 1, 3), "fold": (0,), "cards": (2,),
         "looking": (0,), "say": (0,), "retold": (0,)}  # fmt: skip
NAMED = (
    "Button",
    "Accordion",
    "Tab",
    "DownloadButton",
)  # widgets whose first argument is what they say
TABLES = {  # module-level names that hold words
    "app.py": ("STEPS",), "chatting.py": ("SAID",), "data_step.py": ("ORIGINS", "READING"), "form.py": ("WORDS",),
    "markup.py": ("SUBJECTS", "NOTHING_WRITTEN"), "model_step.py": ("TIMES", "OWN", "LOOKING"),
    "places.py": ("CALLED", "ABBREVIATED"),
    "publish_step.py": ("STAGES", "SURE"), "result_step.py": ("TITLES",), "rows_found.py": ("TITLES",),
    "search.py": ("OFFLINE",), "teaching_part.py": ("KINDS", "FIRST", "LOADING"), "train_step.py": ("STOPPING",),
    "train_view.py": ("WAITS", "NAMES"),
    "try_step.py": ("RUN", "GIVEN", "ASKING"),
}  # fmt: skip


def constants(node: ast.expr | None) -> Iterator[str]:
    """Yield the texts that an expression may be."""
    match node:
        case ast.Constant(value=str(words)):
            yield words
        case ast.IfExp(body=one, orelse=other):
            yield from (words for part in (one, other) for words in constants(part))
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Dict(values=parts):
            yield from (words for part in parts for words in constants(part))
        case ast.Starred(value=part):
            yield from constants(part)


def said(tree: ast.Module, tables: tuple[str, ...]) -> Iterator[ast.expr]:
    """Yield the expressions of a module that are words of the page."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            short = ast.unparse(node.func).rpartition(".")[2]
            yield from (node.args[place] for place in SINKS.get(short, ()) if place < len(node.args))
            if ast.unparse(node.func).startswith("gr."):
                yield from (one.value for one in node.keywords if one.arg in saying.PROPERTIES)
                yield from node.args[:1] if short in NAMED else ()
            waits = (one.value for one in node.keywords if one.arg == "meanwhile")  # (where, what is said there)
            yield from (one.elts[1] for one in waits if isinstance(one, ast.Tuple))
        if isinstance(node, ast.FunctionDef):
            if "markup.facts(" in ast.unparse(node):  # pairs of a name and a value
                pairs = (one.elts for one in ast.walk(node) if isinstance(one, ast.Tuple) and len(one.elts) == 2)
                yield from (pair[0] for pair in pairs if isinstance(pair[0], ast.Constant))
            if node.name in SINKS:
                yield from node.args.defaults
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {part.id for one in targets for part in ast.walk(one) if isinstance(part, ast.Name)}
            if names & set(tables) and node.value is not None:
                yield node.value


def words_of_the_page() -> dict[str, str]:
    """Return the words of the package by where they stand."""
    found = {}
    for path in UI.glob("*.py"):
        for node in said(ast.parse(path.read_text(encoding="utf-8")), TABLES.get(path.name, ())):
            for words in constants(node):
                if LETTERS.search(words) or words == ", ":
                    found[words] = path.name
    return found


def words_from_below() -> set[str]:
    """Return what is known of the closed sets below the app that the page shows."""
    tasks = [catalog.task(name) for name in catalog.tasks()]
    roles = [role for task in tasks for role in task.roles]
    found = {name.replace("-", " ").capitalize() for name in catalog.tasks()}
    found |= {role.name.replace("_", " ") for role in roles} | {role.about.capitalize() for role in roles}
    found |= {role.name.replace("_", " ").capitalize() for role in roles}
    found |= {role.asked[:1].upper() + role.asked[1:] for task in tasks for role in task.shown}
    found |= {model.about for task in tasks for model in task.known_models}
    found |= {one.about for one in samples.SAMPLES.values()}
    found |= {form.about_method(name) for name in form.method_names() if catalog.methods().get(name) != catalog.PEFT}
    found |= {metric.about for metric in answers.metrics().values()}
    for name in launchers():
        place = launcher(name)
        found |= {place.about[:1].upper() + place.about[1:], place.needs}
        for key, field in place.Options.model_fields.items():
            about = field.description or ""
            found |= {about[:1].upper() + about[1:], places.ABBREVIATED.get(key, key.replace("_", " ").capitalize())}
    return found


def test_a_language_is_a_file_beside_english() -> None:
    assert saying.languages()[saying.ENGLISH] == "English" and OTHERS == ["zh"]


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_of_the_page_has_its_translation_and_no_other_stands_there(language: str) -> None:
    wanted, there = words_of_the_page(), saying.page_of(language)
    assert not {words: place for words, place in wanted.items() if words not in there}
    assert not set(there) - set(wanted), "of no use any more"
    assert not words_from_below() - set(there) - set(saying.below_of(language))


@pytest.mark.parametrize("language", OTHERS)
def test_translations_take_the_same_values_and_nothing_that_html_would_read(language: str) -> None:
    file = json.loads((saying.PLACE / f"{language}.json").read_text(encoding="utf-8"))
    assert set(file) == {"name", "page", "below"} and not set(file["page"]) & set(file["below"])
    for words, told in {**file["page"], **file["below"]}.items():
        assert sorted(FIELD.findall(words)) == sorted(FIELD.findall(told)), words
        assert not re.search(
            '[<>"&$`]', FIELD.sub("", told).replace("`", "") + FIELD.sub("", words).replace("`", "")
        ), words
        assert told.strip(), words


def test_words_are_said_whole_so_that_another_language_can_order_them() -> None:
    broken = [
        (path.name, ast.unparse(node))
        for path in UI.glob("*.py")
        for node in said(ast.parse(path.read_text(encoding="utf-8")), ())
        if isinstance(node, ast.JoinedStr)
        and LETTERS.search(
            "".join(one.value for one in node.values if isinstance(one, ast.Constant)).replace("<br>", "")
        )
    ]
    assert not [one for one in broken if not one[1].startswith("f'Role ")], (
        "say(...) with values in place of an f-string"
    )


def test_a_language_is_asked_for_by_the_address_else_by_the_browser() -> None:
    assert saying.chosen("zh", "en") == "zh"
    assert saying.chosen("", "zh-CN,zh;q=0.9,en;q=0.8") == "zh"
    assert saying.chosen("", "de,en;q=0.5,zh;q=0.7") == "zh"
    assert saying.chosen("xx", "fr") == saying.chosen("", "") == saying.chosen("", ";q=x,,") == "en"
    assert saying.chosen("", "en ; q=0.5, zh ;q=0.7") == "zh" and saying.chosen("", "zh;q=0, fr") == "en"


def test_words_are_told_in_the_language_of_who_looks() -> None:
    with saying.spoken("zh"):
        assert "目前" in saying.say("Rows you added so far: {n}.", n=3)
        assert markup.roughly(30) == "30 秒"
        assert saying.retold("It never answers `a` (3 in the test rows).") == "它从不回答 `a` (3 in the test rows)。"
        assert saying.retold("a row of somebody") == "a row of somebody"

    def parts() -> Iterator[str]:
        yield saying.say("done")
        yield saying.say("failed")

    answers_given = saying.throughout("zh", parts())
    assert next(answers_given) == "完成" and saying.say("done") == "done" and next(answers_given) == "失败"


EVALUATION = Path(evaluation.__file__).parent
SAID_OF_RESULTS = ("beside", "folds", "operating", "resolution", "slices", "telling", "usefulness")  # modules


PIECES = {  # what stands for some words of such a sentence, where these have forms of their own
    "beside.shown": "is worse than", "folds.times": "once", "folds.seen": "it", "folds.shown": "",
    "operating.where": "from a probability of 0.3 on", "resolution.rows": "With 40 test rows", "resolution.alike": "",
    "usefulness.name": "the majority class (accuracy 0.5)", "usefulness.trivial[name]": "0.5",
}  # fmt: skip


def written(module: str, node: ast.JoinedStr) -> str:
    """Return what an f-string gives, with 7 for each value that is not named above."""
    values = ((one, ast.unparse(one.value)) for one in node.values if isinstance(one, ast.FormattedValue))
    told = {id(one): PIECES.get(f"{module}.{words}", "7") for one, words in values}
    return "".join(str(one.value) if isinstance(one, ast.Constant) else told[id(one)] for one in node.values)


def sentences_of_results() -> Iterator[tuple[str, str]]:
    """Yield the sentences that a result's page shows, and the modules they stand in."""
    for name in SAID_OF_RESULTS:
        tree = ast.parse((EVALUATION / f"{name}.py").read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        begun = [  # the beginnings of sentences that are ended further below
            (node.lineno, written(name, node.value)) for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.JoinedStr)
            and ast.unparse(node.targets[0]) == "said"
        ]  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                first = node.values[0]
                whole = ast.unparse(first.value) if isinstance(first, ast.FormattedValue) else ""
                words = written(name, node)
                if whole == "said":
                    words = max(one for one in begun if one[0] < node.lineno)[1] + words.removeprefix("7")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | docs:
                words = node.value
            else:
                continue
            if words.endswith(".") and " " in words:
                yield name, words


@pytest.mark.parametrize("language", OTHERS)
def test_what_a_result_says_is_told_in_every_language(language: str) -> None:
    said = dict.fromkeys(sentences_of_results())
    assert len(said) > 20 and any("positive class is" in words for _, words in said)
    with saying.spoken(language):
        assert not [one for one in said if saying.retold(one[1]) == one[1]]


@pytest.mark.parametrize("language", OTHERS)
def test_trivial_answers_are_told_in_every_language(language: str) -> None:
    """What each is called, and what it does, as verdicts name them."""
    found = set()
    for path in Path(answers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Trivial", "constant"):
                for one in node.args[:2]:
                    if isinstance(one, ast.JoinedStr):
                        parts = (str(p.value) if isinstance(p, ast.Constant) else "7" for p in one.values)
                        found.add("".join(parts))
                    elif isinstance(one, ast.Constant):
                        found.add(str(one.value))
    assert len(found) > 20
    with saying.spoken(language):
        assert {words for words in found if saying.retold(words) == words} <= {"BM25", "TF-IDF"}


def test_a_form_takes_as_little_as_can_be_for_each_name() -> None:
    form = re.split(r"\{(\w+)\}", "{a}: {b} of {c} end")
    assert saying._values(form, "x: 1 of 2 of 3 end") == {"a": "x", "b": "1", "c": "2 of 3"}
    assert saying._values(form, ":  of  end") == {"a": "", "b": "", "c": ""}
    for words in ("x: 1 of 2 ends", "x 1 of 2 end", "x: of end", " end"):
        assert saying._values(form, words) is None
    began = time.monotonic()
    for part in (": ", " of ", ": of ", " end"):  # what somebody writes costs no more than its length
        saying.retold(part * 1000)
        assert saying._values(form, part * 1000) is None
    assert time.monotonic() - began < 5


def test_names_of_somebodys_data_stay_as_they_are() -> None:
    with saying.spoken("zh"):
        told = saying.retold("The positive class is `nothing` (by its name): average_precision is of it.")
    assert "`nothing`" in told and "据其名称" in told


def test_the_page_is_laid_out_once_and_sent_in_each_language(tmp_path: Path) -> None:
    blocks = app.build(settings.Settings.read({"HFTRANSFER_ROOT": str(tmp_path)}))
    body = f'<head><html lang="en">{json.dumps(blocks.get_config_file(), ensure_ascii=False, default=str)}'
    english, chinese = spoken_page.page_in(body, "en"), spoken_page.page_in(body, "zh")
    assert not saying.MARK.search(english) and not saying.MARK.search(chinese)
    assert "Start training" in english and "开始训练" not in english
    assert "开始训练" in chinese and "Start training" not in chinese and 'lang="zh-CN"' in chinese
    config = json.loads(saying.unmarked(json.dumps(blocks.get_config_file(), default=str), "zh"))
    assert not [*untold(config)]


def test_the_words_of_others_are_not_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio's sign-in button sends and compares its own words, and programs read the parameters' names."""
    monkeypatch.setattr(gr.routes, "attach_oauth", lambda app: None)  # it asks for a Space's secrets
    place = settings.Settings.read({"SPACE_ID": "owner/space", "HFTRANSFER_ROOT": str(tmp_path)})
    here = page.Page(place, Queue(place, launcher("local")), Workers(place), Monitor())
    blocks = app.laid_out(here)
    (button,) = [one for one in blocks.blocks.values() if isinstance(one, gr.LoginButton)]
    assert button.value == "Sign in with Hugging Face"
    clicked = [one.js for one in blocks.fns.values() if one.targets == [(button._id, "click")]]
    assert clicked and all(json.dumps(button.value) in str(js) for js in clicked)
    parameters = [one for one in blocks.blocks.values() if one.get_block_name() == "api"]
    assert parameters and not [one.label for one in parameters if saying.MARK.search(str(one.label))]
    assert not saying.MARK.search(json.dumps(blocks.get_api_info(), ensure_ascii=False, default=str))


KEPT = {  # names and terms that stay as they are
    "Hugging Face Hub", "config.yaml", "Python", "English", "hftransfer", "QoS", "Hugging Face Jobs",
}  # fmt: skip


def untold(config: dict[str, object]) -> Iterator[tuple[object, str]]:
    """Yield words of a page's widgets that are in no other language."""
    for one in config["components"]:  # type: ignore[attr-defined]
        props = one["props"]
        texts = [props.get(name) for name in saying.PROPERTIES]
        texts += [props.get("value")] if one["type"] == "button" else []
        if one["type"] == "html":
            texts += re.split(r"<[^>]*>", str(props.get("value") or ""))
        for words in texts:
            if isinstance(words, str) and re.search("[a-z]{2} [a-z]", words) and not HAN.search(words):
                yield props.get("elem_id"), words
