"""The model card says what the run's result says, and nothing that users or data wrote can be more than text in it."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from hftransfer import answers, artifact, catalog, config, yaml_core
from hftransfer.card import checklist, findings, markup, report
from hftransfer.config import RunConfig

FLAWS = [
    "a|b", "a\\|b", "`", "``a``", "```\n# heading", "~~~", "a\nb", "\r\n---\r\n", "---",
    "--- !!python/object:os.system", "<script>alert(1)</script>", "<!-- ", "<details>", "&lt;b&gt;",
    "![x](http://e.vil/x.png)", "[x](javascript:alert(1))", "[x]: http://e.vil", "http://e.vil",
    "HTTPS://e.vil/?q=1", "ftp://e.vil", "//e.vil", "www.e.vil", "WWW.e.vil", "evil.com", "me@e.vil",
    "mailto:me@e.vil", "xmpp:me@e.vil", "<http://e.vil>", "$x$", "$$\\evil$$", "\\(x\\)", "\\\\(x\\\\)", "\\[x\\]",
    "${title}", "$title", "{{ x }}", "{% x %}", "# x", "1. x", "1) x", "- x", "+ x", "* x", "> x", "= x", "=== ",
    "**x**", "_x_", "x_", "~~x~~", "[ ] x", "[^1]: x", "\t\tx", "null", "no", "1e3", "0o17", "~", "1:20", "!!str x",
    "&anchor", "*alias", "%YAML 1.2", "? x", ": x", "x: y", "x #y", "'", '"', '"""', "'''", "\\", "\\\\", "a\\",
    "{x: y}", "[x, y]", "\u202eevil\u202c", "\u200b", "\u2066x", "\ufeff", "\x00", "\x1b[31m", "\x85", "\u2028x",
    "\ud800", "\ue000", "😀", "👩\u200d🚀", "имя", "x" * 10_000, "`" * 10_000, "|" * 300, "$" * 9, " ",
    "rows.csv:12", "a/b", "$(rm -rf ~)", "'; rm -rf ~; '", "--help", "a b",
]  # fmt: skip
TEXTS = st.text(
    st.one_of(st.sampled_from("|`\\<>[]()!*_~$#&-+=:/@.\n\"'{}%wth \u202e\u200b"), st.characters()), min_size=1
)
SCORE = {"value": 0.8, "low": 0.7, "high": 0.875}
PLAIN = "name"


def run_config(text: str = PLAIN, **options: Any) -> RunConfig:
    name = re.sub("[\ud800-\udfff]", "", text)[:100] or PLAIN  # pydantic takes no lone surrogate
    tree = {
        "task": "text-classification", "model": "some/base",
        "data": {"source": "some/rows", "columns": {"text": name}, "group": name, "name": name, "test": f"x{name}"},
        "method": {"name": "full"}, "train": {"auto": False, "num_train_epochs": 2, "class_weights": {name: 2.0}},
    }  # fmt: skip
    return config.build(config.override(tree, []) | options)


def a_result(text: str = PLAIN, kind: str = "hub", **changes: Any) -> dict[str, Any]:
    """Return what result.json may hold, with the text wherever users or data have a say."""
    told = {"name": text, "kind": kind, "revision": text, "license": text, "languages": [f"{text}!"]}
    result: dict[str, Any] = {
        "schema": 3, "task": "text-classification", "model": text, "revision": text, "method": "lora", "seed": 42,
        "answer": {
            "kind": "single_label", "names": [text, f"{text} {text}"], "counts": [110, 2], "rows": 112,
            "temperature": 1.25,
        },
        "main_metric": "accuracy", "selected_by": "accuracy",
        "sources": {"model": told, "data": told},
        "columns": [{"role": role, "column": text, "reason": text} for role in ("text", "label")],
        "data": {
            "source": text, "fingerprint": "f" * 64, "splits": {"train": 112, "validation": 16, "test": 1032},
            "split_fingerprints": {"train": "a" * 64, "validation": "b" * 64, "test": "c" * 64},
            "leakage": {"test": {"train": 12}, "validation": {}},
            "guesses": [f"rows.csv: {text}"],
            "warnings": [
                f"leakage: 12 of 1032 test rows ({text}) also stand in train",
                f"test: 3.1% of rows (32) were cut at 64 tokens; {text}", f"class {text} missing from test",
                f"{text} at the start",
            ],
        },
        "test": {
            "n": 1032, "confidence": 0.95, "metrics": {"accuracy": SCORE, "log_loss": SCORE, text: SCORE},
            "classes": [
                {"name": text, "n": 1016, "precision": 0.5, "recall": 0.25, "f1": 0.3, "f1_low": 0.25, "f1_high": 0.5},
                {"name": f"{text} {text}", "n": 16, "recall": 0.0}
                | dict.fromkeys(("precision", "f1", "f1_low", "f1_high")),
            ],
            "notes": [f"{text} is undefined on these rows and left out."],
        },
        "validation": None,
        "baseline": {
            "name": "majority class", "about": "answers the same whatever the input",
            "metrics": {"accuracy": SCORE}, "below": f"it is {text}: of no use",
        },
        "calibration": {
            "temperature": 1.25, "calibration_error": 0.125, "calibration_error_calibrated": 0.0625,
        },
        "cost": {
            "train_seconds": 30.25, "total_seconds": 7500.0, "examples_per_second": 1182.55, "peak_memory_mb": 1576,
            "trainable_parameters": 219, "total_parameters": 21922, "steps": 1042, "best_step": 28, "processes": 2,
            "device": text, "hardware": f"2 x {text}",
        },
        "speed": {"micro_batch": 8, "accumulation": 2, "bf16": True},
        "artifact": "artifact", "versions": {"hftransfer": "0.1.0", "python": text},
        "artifact_plots": ["plots/confusion_matrix.png", "plots/reliability.png"],
    }  # fmt: skip
    return result | changes


def real(**changes: Any) -> dict[str, Any]:
    """Return a result whose names are those of a run on the Hub."""
    result = a_result(PLAIN, **changes)
    common = {"kind": "hub", "revision": "a" * 40}
    result["sources"] = {
        "model": {**common, "name": "some/base", "license": "apache-2.0", "languages": ["de"]},
        "data": {**common, "name": "some/rows", "license": "cc-by-4.0", "languages": ["en", "no"]},
    }
    result["test"]["metrics"] = {"accuracy": SCORE, "f1_macro": SCORE, "log_loss": SCORE}
    return result | changes


def parts(text: str) -> tuple[dict[str, Any], str]:
    """Return the metadata, read as the Hub's regular expression finds them, and the body."""
    found = re.match(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))", text)
    assert found
    return yaml.safe_load(found[2]), text[found.end() :]


def tokens(body: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(body)


def skeleton(body: str) -> list[str]:
    """Return the kinds of all blocks and of what stands in them, without the text."""
    found = []
    for token in tokens(body):
        found.append(f"{token.type} {token.tag} {token.info}")
        found += [child.type for child in token.children or () if not child.type.startswith("text")]
    return found


def blocks(body: str, language: str) -> list[str]:
    return [token.content for token in tokens(body) if token.type == "fence" and token.info == language]


def written(body: str) -> str:
    """Return the text outside of code and tables' bars, as a reader would see it, one paragraph a line."""
    lines = []
    for token in tokens(body):
        kinds = ("text", "text_special")
        lines.append(
            "".join(c.content if c.type in kinds else "\N{OBJECT REPLACEMENT CHARACTER}" for c in token.children or ())
        )
    return "\n".join(lines)


def section(body: str, title: str) -> str:
    return body.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


# --- nothing but text ---


def check_is_text(text: str) -> None:
    made, settings_ = a_result(text), run_config(text)
    rendered = report.render(made, settings_, repo=text, license=text)
    fields, body = parts(rendered)
    plain = report.render(a_result(), run_config(), repo=PLAIN, license=PLAIN)

    assert skeleton(body) == skeleton(parts(plain)[1])
    kinds = {kind.split()[0] for kind in skeleton(body)}
    assert not kinds & {"html_block", "html_inline", "link_open"} and skeleton(body).count("image") == 2
    assert not re.search(r"(?i)(https?|ftp):/{2}|www\.|[\w.+-]@[\w-]", written(body))
    assert not [char for char in rendered if markup.hidden(char) and char not in ("\n", markup.JOINER)]
    assert "$$" not in body and "\\\\(" not in body and "\\\\[" not in body  # what the Hub makes formulas of
    rendered.encode()

    assert yaml_core.read_yaml(rendered[4 : -len(body) - 4]) == fields, "YAML 1.1 and 1.2 must agree"
    assert ModelCard(rendered).data.to_dict() == fields
    index = fields["model-index"][0]
    shown = markup.visible(text, 2 * markup.LONGEST)
    assert index["name"] == shown
    assert [m["value"] for m in index["results"][0]["metrics"]] == [0.8] * len(made["test"]["metrics"])
    assert index["results"][0]["dataset"]["config"] == markup.visible(settings_.data.name or "")

    (recipe,) = blocks(body, "yaml")
    assert yaml_core.read_yaml(recipe) == yaml_core.read_yaml(artifact.recipe(settings_))
    for block in blocks(body, "python"):
        names = [node.value for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Constant)]
        assert text in names
    for block in blocks(body, "bash"):
        for line in [line for line in block.splitlines() if line.startswith(("hftransfer predict", "hftransfer rep"))]:
            assert shlex.split(line)[2] == shown


@pytest.mark.parametrize("text", FLAWS, ids=lambda text: repr(text[:20]))
def test_names_are_only_text(text: str) -> None:
    check_is_text(text)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_any_names_are_only_text(text: str) -> None:
    # a note that reads like a warning of another group stands there, and still is only text
    assume({findings.group(f"{start}{text} at the start") for start in ("", "class ")} == {"Other notes"})
    assume(text not in answers.metrics())  # whose row would be another one's
    check_is_text(text)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_a_code_span_holds_the_whole_name(left: str, right: str) -> None:
    """Beside text, beside another span and in a table."""
    wanted = [markup.visible(text) or "(empty)" for text in (left, right)]
    paragraph = tokens(f"x {markup.code(left)} {markup.code(right)} y")[1].children or []
    shown = [token.content.replace(markup.JOINER, "") for token in paragraph if token.type == "code_inline"]
    assert shown == [name.replace(markup.JOINER, "") for name in wanted]
    cells = [
        token
        for token in tokens(markup.table(("a", "b"), [(markup.code(left), markup.code(right))]))
        if token.children
    ]
    assert len(cells) == 4
    shown = ["".join(child.content for child in cell.children or ()) for cell in cells[2:]]
    assert [text.replace(markup.JOINER, "") for text in shown] == [name.replace(markup.JOINER, "") for name in wanted]


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_prose_reads_as_it_was_written(text: str) -> None:
    shown = written(f"- {markup.prose(text)}").strip("\n").replace(markup.JOINER, "")
    assert shown == markup.visible(text, markup.LONGEST_SENTENCE).replace(markup.JOINER, "")


def test_hidden_characters_show() -> None:
    assert markup.visible("a\u202eb\x00c\nd") == "a\ufffdb\ufffdc d"
    assert markup.visible("👩\u200d🚀") == "👩\u200d🚀"
    assert markup.visible("x" * 10_000) == "x" * 79 + "…"
    assert markup.code("") == markup.code(" ") == "`(empty)`"


# --- metadata ---


def test_metadata_of_a_run_on_the_hub() -> None:
    fields, _ = parts(report.render(real(), run_config(), repo="me/mine"))
    index = fields.pop("model-index")
    assert fields == {
        "language": ["en", "no"], "license": "apache-2.0", "library_name": "transformers",
        "pipeline_tag": "text-classification", "base_model": "some/base", "base_model_relation": "finetune",
        "datasets": ["some/rows"], "metrics": ["accuracy", "f1"], "tags": ["hftransfer", "full"],
    }  # fmt: skip
    assert index == [
        {
            "name": "me/mine",
            "results": [
                {
                    "task": {"type": "text-classification"},
                    "dataset": {
                        "name": "some/rows", "type": "some/rows", "config": PLAIN, "split": "xname",
                        "revision": "a" * 40,
                    },
                    "metrics": [
                        {"type": kind, "value": 0.8, "name": f"{name} (95% interval 0.700 to 0.875, n = 1032)"}
                        for kind, name in (("accuracy", "accuracy"), ("f1", "f1_macro"), ("log_loss", "log_loss"))
                    ],
                }
            ],
        }
    ]  # fmt: skip


def test_only_what_is_on_the_hub_is_named_to_the_hub() -> None:
    made = real()
    for source, kind in (("model", "sample"), ("data", "local")):
        made["sources"][source] |= {"kind": kind, "languages": None, "license": None, "revision": None}
    fields, _ = parts(report.render(made, run_config()))
    assert not {"base_model", "base_model_relation", "datasets", "language", "license"} & fields.keys()
    assert "revision" not in fields["model-index"][0]["results"][0]["dataset"]
    assert fields["model-index"][0]["name"] == "some/base, adapted to some/rows"


def of_before(made: dict[str, Any]) -> dict[str, Any]:
    """Return a result as schema 1 had it, which leaves the kind of answer and the main metric to be told."""
    made = {name: value for name, value in made.items() if name not in ("answer", "main_metric", "selected_by")}
    made["baseline"] = {name: value for name, value in made["baseline"].items() if name != "about"}
    return made | {"schema": 1}


def test_the_card_of_a_run_of_before_is_the_same() -> None:
    for made in (a_result(), real()):
        assert report.render(of_before(made), run_config()) == report.render(made, run_config())


def test_a_run_of_before_has_a_card_too() -> None:
    made = of_before(real())
    for name in ("sources", "columns", "artifact_plots", "calibration", "speed"):
        del made[name]
    del made["cost"]["hardware"], made["cost"]["processes"], made["data"]["leakage"], made["test"]["confidence"]
    fields, body = parts(report.render(made, run_config()))
    assert not {"base_model", "datasets", "license", "language"} & fields.keys()
    assert "Unknown" in section(body, "Licence") and "![" not in body


@pytest.mark.parametrize(
    ("licence", "chosen", "fields"),
    [
        ("MIT", None, {"license": "mit"}),
        ("apache-2.0", "cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ("unknown", None, {}),
        (None, None, {}),
        ("other", None, {
            "license": "other", "license_name": "see-base-model", "license_link": "https://huggingface.co/some/base",
        }),
        ("mit", "My own, v2!", {"license": "other", "license_name": "my-own-v2"}),
    ],
)  # fmt: skip
def test_licences(licence: str | None, chosen: str | None, fields: dict[str, str]) -> None:
    made = real()
    made["sources"]["model"]["license"] = licence
    found, body = parts(report.render(made, run_config(), license=chosen))
    assert {name: value for name, value in found.items() if name.startswith("license")} == fields
    said = section(body, "Licence")
    assert "`cc-by-4.0`" in said, "the data's"
    assert (f"`{chosen}`, chosen by" in said) if chosen else (f"`{licence}`, carried over" in said) == bool(fields)


@pytest.mark.parametrize(
    ("licence", "asked"),
    [
        ("apache-2.0", "notices"), ("mit", "copyright"), ("cc-by-nc-sa-4.0", "commercial"),
        ("cc-by-sa-4.0", "authors"), ("cc-by-nd-4.0", "does not allow"), ("gpl-3.0", "keep the licence"),
        ("llama3.1", "limits what"), ("odd", "Read it"),
    ],
)  # fmt: skip
def test_what_a_licence_asks_for_is_said(licence: str, asked: str) -> None:
    made = real()
    made["sources"]["model"]["license"] = licence
    assert asked in section(report.render(made, run_config()), "Licence")


def test_metrics_go_by_the_hubs_ids() -> None:
    made = real()
    made["test"]["metrics"] = dict.fromkeys(("f1_entity", "recall_entity", "accuracy", "rmse", "rouge1"), SCORE)
    settings_ = run_config(evaluation={"metrics": ["rouge", "log_loss", "no such id!"]})
    fields, _ = parts(report.render(made, settings_))
    assert fields["metrics"] == ["seqeval", "accuracy", "rouge"]
    kinds = [metric["type"] for metric in fields["model-index"][0]["results"][0]["metrics"]]
    assert kinds == ["f1", "recall", "accuracy", "rmse", "rouge1"]


def test_a_test_split_that_was_cut_is_not_called_the_sources() -> None:
    made = real()
    made["data"]["warnings"] = ["no test split: 20% (32 rows) cut from train, at random, seed 42"]
    fields, _ = parts(report.render(made, run_config()))
    assert "split" not in fields["model-index"][0]["results"][0]["dataset"]


# --- what it says ---


def test_scores_with_interval_baseline_and_count() -> None:
    body = report.render(real(), run_config())
    said = section(body, "How good it is")
    assert "1,032 test rows" in said and "95 %" in said
    assert "| `accuracy` | 0.800 | 0.700 to 0.875 | 0.800 |" in said
    assert "| `log_loss` (lower is better) | 0.800 | 0.700 to 0.875 |  |" in said
    assert "**it is name: of no use**" in said
    assert "| `name` | 1,016 | 0.500 | 0.250 | 0.300 | 0.250 to 0.500 |" in said
    assert "| `name name` | 16 | undefined | 0.000 | undefined |  |" in said
    assert "(plots/confusion_matrix.png)" in said and "(plots/reliability.png)" in said
    assert "0.125 as the model is" in said and "0.062 from `Predictor`" in said and "by 1.250" in said
    assert "did not lower" not in said
    assert "The baseline (majority class) answers the same whatever the input." in said


def test_a_temperature_that_does_harm_is_said() -> None:
    made = real()
    made["calibration"]["calibration_error_calibrated"] = 0.25
    assert "did not lower" in section(report.render(made, run_config()), "How good it is")


def test_data_warnings_and_cost() -> None:
    body = report.render(real(), run_config())
    said = section(body, "Data")
    assert "| `test` | 1,032 | `cccccccccccccccc` |" in said and "f" * 64 in said and "a" * 40 in said
    leakage, truncation, rest = (said.index(f"\n{title}:") for title in ("Leakage", "Truncation", "Other notes"))
    assert 0 < said.index("Guessed of the files:") < leakage
    assert leakage < said.index("12 of 1032") < truncation < said.index("were cut at 64") < rest
    spent = section(body, "What it cost")
    assert "30.2 s of training, 7,500 s (2.1 h) in all" in spent and "2 x name, 2 processes" in spent
    assert "219 of 21,922 parameters trained (1.00%)" in spent and "8 rows a step and process x 2" in spent


def test_a_clean_set_is_said_to_be_clean_where_it_was_looked_at() -> None:
    made = real()
    made["data"] |= {"warnings": [], "leakage": {"test": {}, "validation": {}}}
    assert "Leakage: none found." in section(report.render(made, run_config()), "Data")
    del made["data"]["leakage"]
    assert "Leakage" not in report.render(made, run_config())


def test_the_commands_of_a_run_on_two_processes() -> None:
    (_, commands) = blocks(parts(report.render(real(), run_config(), repo="me/mine"))[1], "bash")
    assert "hftransfer reproduce me/mine\n" in commands and "hftransfer train run.yaml --processes 2\n" in commands
    assert "accelerate launch --multi_gpu --num_processes 2 hftransfer/train.py --config run.yaml" in commands
    made = real()
    made["cost"]["processes"] = 1
    commands = blocks(parts(report.render(made, run_config()))[1], "bash")[1]
    assert "--processes" not in commands and "multi_gpu" not in commands


def test_the_configuration_builds_the_same_run_without_this_machines_paths(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.touch()
    built = config.build({"task": "text-classification", "model": str(tmp_path), "data": {"source": str(source)}})
    text = report.render(real(), built)
    (recipe,) = blocks(parts(text)[1], "yaml")
    assert config.build(yaml_core.read_yaml(recipe)) == artifact.public_config(built)
    assert str(tmp_path) not in text and "source: rows.csv" in recipe


def test_limits_come_from_the_figures() -> None:
    said = section(report.render(real(), run_config()), "Limits")
    assert "1,032 test rows give `accuracy` to about ±0.088" in said
    assert "fewer than 30 in the test" in said and "`name name` (16)" in said and "(1016)" not in said
    assert "shares 12 with train" in said and "behind the cut" in said and "Language: `en`, `no`" in said
    assert "It is worse than a trivial answer (majority class): do not use it as it is." in said
    made = real(answer={"kind": "regression", "names": [], "rows": 112, "total": 50.0}, main_metric="rmse")
    made["test"]["classes"], made["test"]["metrics"] = [], {"mae": SCORE, "rmse": {"value": 2, "low": 1, "high": 4}}
    made["data"]["leakage"], made["data"]["warnings"] = {}, []
    del made["baseline"]["below"]
    said = section(report.render(made, run_config()), "Limits")
    assert "`rmse` to about ±1.500" in said and "no interval of its own" in said
    assert not re.search("shares|behind the cut|do not use it|fewer than|is not shown", said)


@pytest.mark.parametrize(("trivial", "said"), [(0.65, False), (0.7, True), (0.8, True), (0.9, False)])
def test_an_interval_that_reaches_the_baseline_shows_nothing(trivial: float, said: bool) -> None:
    made = real()
    made["baseline"] = {"name": "majority class", "metrics": {"accuracy": {"value": trivial, "low": 0.6, "high": 1.0}}}
    limits = section(report.render(made, run_config()), "Limits")
    assert ("is not shown" in limits) == said and (f"reaches the baseline's {trivial:.3f}" in limits) == said


@pytest.mark.parametrize(
    ("kind", "names", "measured", "main"),
    [
        ("single_label", ["a", "b"], ["f1_micro", "accuracy"], "accuracy"),
        ("multi_label", ["a", "b"], ["accuracy", "f1_micro", "hamming_loss"], "f1_micro"),
        ("regression", [], ["mae", "rmse"], "rmse"),
        ("tags", ["O", "B-a"], ["accuracy", "f1_entity"], "f1_entity"),
        ("tags", ["noun", "verb"], ["accuracy", "f1_macro"], "accuracy"),
    ],
)
def test_the_limit_is_that_of_the_main_metric(kind: str, names: list[str], measured: list[str], main: str) -> None:
    made = real(answer={"kind": kind, "names": names}, main_metric=main)
    made["test"]["metrics"] = dict.fromkeys(measured, SCORE)
    assert answers.restore(made["answer"]).main_metric == main
    for result in (made, of_before(made)):
        assert f"rows give `{main}` to" in section(report.render(result, run_config()), "Limits")


def test_the_worst_of_many_classes_are_shown() -> None:
    made = real()
    made["test"]["classes"] = [
        {"name": f"c{i}", "n": 40, "precision": i / 60, "recall": i / 60, "f1": i / 60, "f1_low": 0.0, "f1_high": 1.0}
        for i in reversed(range(60))
    ]
    said = section(report.render(made, run_config()), "How good it is")
    assert "Of 60 classes the 50 with the lowest F1" in said and "`c49`" in said and "`c50`" not in said
    made["test"]["classes"] = made["test"]["classes"][-50:]
    assert "Of 50" not in report.render(made, run_config())


def test_pairs_and_adapters_have_their_own_snippets() -> None:
    made = real()
    made["columns"].insert(1, {"role": "text_pair", "column": "b", "reason": ""})
    _, body = parts(report.render(made, run_config(method={"name": "lora"}), repo="me/mine"))
    assert '{"text": "a text", "text_pair": "another text"}' in blocks(body, "python")[0]
    assert "hftransfer predict me/mine rows.csv" in blocks(body, "bash")[0]
    adapter = blocks(body, "python")[2]
    assert 'AutoModelForSequenceClassification.from_pretrained("some/base"' in adapter and '"adapter"' in adapter
    assert "peft" not in "".join(blocks(parts(report.render(made, run_config()))[1], "python"))


def test_only_plots_that_are_there_are_shown(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/reliability.png").touch()
    text = report.write(tmp_path, real(), run_config()).read_text(encoding="utf-8")
    assert "plots/reliability.png" in text and "confusion_matrix.png" not in text
    assert "../secret.png" not in report.render(real(artifact_plots=["../secret.png"]), run_config())


def test_the_card_is_light_and_the_same_each_time() -> None:
    code = (
        "import sys; from tests.unit.test_card import real, run_config; import json\n"
        "from hftransfer.card import report\n"
        "text = report.render(real(), run_config(), repo='me/mine')\n"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib', 'pandas', 'pyarrow', 'sklearn', 'evaluate'}\n"
        "print(json.dumps([text, sorted(heavy & set(sys.modules))]))"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    text, loaded = yaml.safe_load(texts[0])
    assert texts[0] == texts[1] and loaded == []
    assert text == report.render(real(), run_config(), repo="me/mine")


def test_copies_and_labels_are_counted_in_the_card() -> None:
    made = a_result()
    made["data"]["label_issues"] = {"looked": 112, "found": 3, "issues": 3, "file": "label_issues.csv"}
    text = section(report.render(made, run_config()), "Data")
    assert "Copies and labels:\n\n- copies of test rows in train: 12 the same\n- likely wrong labels: 3 of 112" in text


def test_the_score_without_leaked_rows_stands_beside_the_score() -> None:
    clean = {
        "n": 1020,
        "left_out": 12,
        "confidence": 0.95,
        "metrics": {"accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}},
    }
    both = report.render(a_result(without_leaked_rows={**clean, "learnt": ["train", "validation"]}), run_config())
    assert "that have a copy in train or validation, which it learned from as well, the same, near or likely" in both
    text = report.render(a_result(without_leaked_rows=clean), run_config())
    assert (
        "- Without the 12 test rows that have a copy in train, the same, near or likely, `accuracy` is 0.700 "
        "(0.600 to 0.800, n = 1,020); with them" in text
    )
    assert "near or likely" not in report.render(a_result(without_leaked_rows=None), run_config())


def test_texts_are_cut_by_the_pipeline_where_training_cut_them() -> None:
    """Untold, it cuts nothing: it reads longer texts otherwise, and fails at those longer than the model."""
    text = section(report.render(a_result(max_length=48), run_config()), "Use")
    assert 'print(answer("a text", truncation=True, max_length=48))' in text
    placed = a_result(max_length=48)
    label = placed["answer"]["names"][1]
    point = {"label": label, "rule": {"sensitivity": 0.9}, "prevalence": None, "threshold": 0.3}
    placed["answer"] |= {"positive": label, "why_positive": "as asked", "points": [point]}
    assert "top_k=None, truncation=True, max_length=48)" in section(report.render(placed, run_config()), "Use")
    assert "truncation" not in section(report.render(a_result(max_length=None), run_config()), "Use")


@pytest.mark.parametrize(
    ("given", "auto", "weighed"),
    [
        (None, None, False),
        ("balanced", None, True),
        (None, {"again": {"options": {"class_weights": "balanced"}}, "final": {"method": "full"}}, True),
        (None, {"again": {"options": {"class_weights": "balanced"}}, "final": {"method": "probe"}}, False),
        (None, {"again": {"options": {"learning_rate": 1e-4}}, "final": {"method": "full"}}, False),
        (None, {"again": {}, "final": {"method": "full"}}, False),
    ],
)
def test_what_the_guard_changed_is_told_where_imbalance_is_asked_for(given: Any, auto: Any, weighed: bool) -> None:
    train = types.SimpleNamespace(class_weights=given)
    about: Any = types.SimpleNamespace(config=types.SimpleNamespace(train=train), result={"auto": auto})
    assert checklist._imbalance(about).startswith("Classes are weighed" if weighed else "Not adjusted")


def test_lines_for_a_browser_say_from_which_score_a_label_is_given() -> None:
    answer = answers.restore({
        "kind": "single_label", "names": ["no", "yes"], "counts": [3, 4], "rows": 7, "positive": "yes",
        "points": [{"label": "yes", "rule": {"sensitivity": 0.9}, "threshold": 0.3125}],
    })  # fmt: skip
    onnx = {"rows": 3, "largest_difference": 1e-7, "quantized": None, "transformers_js": True}
    about: Any = types.SimpleNamespace(
        result={"onnx": onnx}, answer=answer, task=catalog.task("text-classification"), roles=None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "inputs", lambda about: ["text"])
        told = report.in_javascript(about, '"me/mine"')
    assert (
        told[-1] == "These are scores. What was chosen on validation rows is not in the weights: `yes` from 0.312 on."
    )
