"""Messages that the engine sends to a run's events: each of them is told in every language of the page."""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import hftransfer
from hftransfer import follow
from hftransfer.ui import saying, train_view
from hftransfer.ui.monitor import View

PACKAGE = Path(hftransfer.__file__).parent
OTHERS = [name for name in saying.languages() if name != saying.ENGLISH]
# what speaks in a run's events, and what is asked for its words there
SPEAK = ("answers", "audit", "data", "fitting", "frozen", "hub", "inputs", "launchers", "methods", "modeling")
SPEAK_TOO = ("comparison/fusion.py", "questions.py", "runs.py", "tasks/base.py", "train.py", "training.py")
ERRORS = re.compile(
    r"Error$|^(Unfit|UnclearColumn|Problem|Damaged|amended|refuse|unknown|advice|_none|_unsure|startswith)$"
)
WORDS = re.compile(r"[a-z]{2,}[,;:]? [(]?[a-z]{2,}")  # two of them make a sentence, or a part of one
SAME = re.compile(  # in every language: data, options, commands
    r"`[^`]*`|\b[a-z]+\.[a-z_]+(=\S*)?|\b(?:hftransfer|hf|pip|accelerate) [-\w./\[\]'\"= ]+|--[a-z]+ [a-z]+"
    r"|\bfor f in [^;]*; do .*?; done"
)
HAN = re.compile("[\u4e00-\u9fff]")
MOST = 48  # ways to read one f-string whose values are words

# the constants of modules that such messages are made of: all others are told elsewhere
CONSTANTS = {"comparison/fusion.py": "NO_MODEL", "data/leakage.py": "MEANING", "answers/_head.py": "FEW"}
# functions that say nothing to a run: they draw, write cards, code and commands, or words of errors
ELSEWHERE = frozenset({
    "plots", "limits", "adds", "confusions", "drawn", "decision_curve", "decided_in", "view", "lines", "_called",
    "javascript", "job_script", "parse", "verdict", "renewal", "require_artifact", "_decides", "_load_problem",
    "_model_type", "_remote_code", "runs.py:find", "hub/demo.py:publish", "hub/outsider.py:main",
    "hub/reproduction.py:compare", "methods/zero_shot.py:_needed", "fitting/speed.py:_name",
    "fitting/memory.py:advice",
    "fitting/matching.py:_steps", "answers/_mask_models.py:reader", "data/layout.py:_offer",
    "data/formats/encodings.py:_wide", "data/formats/encodings.py:_not_utf8",
})  # fmt: skip
MADE_OF_OTHERS = frozenset({"methods/fuse.py:second_rows", "modeling/problems.py:_no_weights"})  # words that are given
# parts of errors, names of places in them, and what the Hub is told
NOT_SAID = frozenset({
    "of the system", "about the data", "the text files", "the corpus", "the data set has 7", "the stream",
    "the base", "Publish with hftransfer",
    "7 small files", ", or resume a run of this machine: hftransfer runs", " and try again.",
    " and try again: hftransfer publish 7 7", "7: 7 (and the event could not be written: 7)",
})  # fmt: skip
# what stands for a value that is words of ours
PIECES = {
    "_part(looked, setup)": "", "rows_of(mask, row_ids)": "", "rows_of(whole, of[0].row_ids)": "",
    "brief(warning)": "",
    "_epochs(rows, size, arguments.max_steps)": "3.0 epochs", "told[0].upper()": "",
    "told[1:]": "Its perplexity of 7 (7 passages, 7 tokens)",
    "columns.wanted": "a task needs a text column (string)", "columns.has": "the data set has a (int64)",
    "problem.wanted": "a known split in data.test is needed", "problem.found": "found 'x'",
    "error.wanted": "7", "_crowd.window": "in all of train", "_head.so": "little can be learned of them",
    "_operating.how": "with",
    "cleaning.said": "1 with no label; 2 with no text", "tree.kind": "about the data", "in_memory.use": "test",
    "streaming.use": "validation", "_dialogues.COMPLETION": "completion",
    "parts_of_recordings.said": "name parts of recordings, in samples: each row is heard from there to there (those "
    "of one recording may stand on both sides of a cut: data.group=file)",
}  # fmt: skip
# the sentences that somebody else puts words into
WITHIN = {
    "audit/likely_copies.py:look": "leakage: 7 of 7 test rows (7%) also stand in train (same text); scores on them "
    "measure memory{}",
    "audit/likely_copies.py:_part": "leakage: 7 of 7 test rows (7%) also stand in train (same text); scores on them "
    "measure memory; likely_copies.csv lists them to look through{}",
    "fitting/matching.py:_strategies": "train.eval_strategy=steps: {}",
    "data/annotations/forms.py:within": "test: 7 {}", "data/annotations/placing.py:_row": "test: 7 {}",
    "data/annotations/outlines.py:_seen": "7 {}",
    "data/parts_of_recordings.py:_unit": "`a` and `b` {}",
}  # fmt: skip


class Module:
    """The texts that a module says, and by which names of a function parts of them go."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(PACKAGE).as_posix()
        self.found: list[tuple[str, ast.expr]] = []  # a function's name, and what it says
        self.names: dict[tuple[str, str], list[ast.expr]] = defaultdict(list)
        self.known: dict[tuple[str, str], list[ast.expr]] = defaultdict(list)
        self.used: set[tuple[str, str]] = set()  # within other texts
        self.wrong: set[tuple[str, str]] = set()  # within errors
        self.errors: list[tuple[str, list[ast.expr]]] = []  # a function's name; what was wanted, found, to be done
        self._walk(ast.parse(path.read_text(encoding="utf-8")), "")

    def _walk(self, node: ast.AST, function: str) -> None:
        self._errors(node, function)
        match node:
            case ast.Call(func=func) if ERRORS.search(ast.unparse(func).rpartition(".")[2]):
                self.wrong |= {(function, one.id) for one in ast.walk(node) if isinstance(one, ast.Name)}
                return
            case ast.Raise() | ast.Compare() | ast.Expr(value=ast.Constant()) | ast.arguments():
                if isinstance(node, ast.Raise):
                    self.wrong |= {(function, one.id) for one in ast.walk(node) if isinstance(one, ast.Name)}
                return
            case ast.FunctionDef(name=name, returns=returns):
                if returns is not None and re.search("UserError|NoReturn", ast.unparse(returns)):
                    return
                function = name
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.NamedExpr(target=ast.Name(id=name), value=value)
            ):
                if function or CONSTANTS.get(self.name) == name:
                    self.names[function, name].append(value)
                else:
                    return
            case ast.AnnAssign() if not function:
                return
            case ast.AugAssign(target=ast.Name(id=name), value=ast.JoinedStr() | ast.IfExp() as value):
                self.names[function, name] = [
                    ast.BinOp(one, ast.Add(), value) for one in self.names[function, name]
                ] or [value]
                self.used.add((function, name))
            case ast.JoinedStr() | ast.BinOp(op=ast.Add()):
                self.found.append((function, node))
                self.used |= {(function, one.id) for one in ast.walk(node) if isinstance(one, ast.Name)}
                return
            case ast.Constant(value=str()):
                self.found.append((function, node))
        for child in ast.iter_child_nodes(node):
            self._walk(child, function)

    def _errors(self, node: ast.AST, function: str) -> None:
        """Take the errors of a function, and what goes by a name there, also where nothing is said."""
        if not isinstance(node, ast.FunctionDef):
            return
        for one in ast.walk(node):
            match one:
                case ast.Call(func=func, args=[wanted, found, action, *_]) if re.search(
                    r"\b(UserError|UnclearColumn)$", ast.unparse(func)
                ):
                    self.errors.append((node.name, [wanted, found, action]))
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.known[node.name, name].append(value)

    def refusals(self) -> Iterator[tuple[str, str]]:
        """Yield (function, words) of what is said whole by errors."""
        names, self.names = self.names, self.known
        for function, parts in self.errors:
            each = [self.read(function, one)[:3] for one in parts]
            for wanted, found, action in itertools.product(*each):
                yield function, f"{wanted}; {found}. {action}".rstrip()
        self.names = names

    def read(self, function: str, node: ast.expr, deep: int = 0) -> list[str]:
        """Return what an expression may give, with 7 for what is no word of ours."""
        short = f"{Path(self.name).stem}.{ast.unparse(node)}" if isinstance(node, ast.Name) else ast.unparse(node)
        match node:
            case _ if short in PIECES:
                return [PIECES[short]]
            case ast.Constant(value=str(words)):
                return [words]
            case ast.JoinedStr(values=parts):
                return self._joined([self.read(function, one, deep) for one in parts])
            case ast.FormattedValue(value=value, format_spec=None):
                return self.read(function, value, deep)
            case ast.BinOp(left=one, op=ast.Add(), right=other):
                return self._joined([self.read(function, one, deep), self.read(function, other, deep)])
            case ast.IfExp(body=one, orelse=other):
                return [*self.read(function, one, deep), *self.read(function, other, deep)]
            case ast.Name(id=name) if deep < 4 and (function, name) in self.names:
                ways = (self.read(function, one, deep + 1) for one in self.names[function, name])
                return list(dict.fromkeys(itertools.chain.from_iterable(ways)))
        return ["7"]

    def _joined(self, parts: list[list[str]]) -> list[str]:
        return ["".join(one) for one in itertools.islice(itertools.product(*parts), MOST)]

    def sentences(self) -> Iterator[tuple[str, str]]:
        """Yield (function, words) of what is said whole: a part of another text is told with that."""
        hidden = {*self.used, *self.wrong}
        parts = {id(one) for key in hidden for value in self.names.get(key, ()) for one in ast.walk(value)}
        for function, node in self.found:
            if id(node) not in parts and (function or self.name in CONSTANTS):
                yield from ((function, words) for words in self.read(function, node))


def paths() -> list[Path]:
    """Return the modules that speak."""
    below = [path for name in SPEAK for path in sorted((PACKAGE / name).rglob("*.py"))]
    return [*below, *(PACKAGE / name for name in SPEAK_TOO)]


@cache
def messages() -> dict[str, str]:
    """Return what the engine says by where it stands."""
    found = dict.fromkeys(follow.PHASES.values(), "follow")
    for path in paths():
        module = Module(path)
        for function, words in module.sentences():
            place = f"{module.name}:{function}"
            if WORDS.search(words) and not {function, place} & ELSEWHERE and words not in NOT_SAID:
                found[WITHIN.get(place, "{}").replace("{}", words)] = place
    return found


@cache
def refusals() -> dict[str, str]:
    """Return what errors of the engine say, by where they stand, but for those that are made of other errors."""
    found = {}
    for path in paths():
        module = Module(path)
        for function, words in module.refusals():
            if re.search("[a-z]{2}", words) and (place := f"{module.name}:{function}") not in MADE_OF_OTHERS:
                found[words] = place
    return found


def untold(now: str) -> bool:
    """Tell whether words of ours are left in a sentence that should be told in another language."""
    return not HAN.search(now) or WORDS.search(SAME.sub("", now)) is not None


@pytest.mark.parametrize("language", OTHERS)
def test_what_the_engine_says_of_a_run_is_told_in_every_language(language: str) -> None:
    """None of our words is left over, but for names of options and commands."""
    with saying.spoken(language):
        told = {words: saying.begun(words) for words in messages()}
    assert len(told) > 400 and any("every answer in them is learned" in words for words in told)
    assert not {words: (messages()[words], now) for words, now in told.items() if untold(now)}


@pytest.mark.parametrize("language", OTHERS)
def test_what_ends_a_run_is_told_in_every_language(language: str) -> None:
    """What was wanted, what was found, and what to do, as an event holds them."""
    with saying.spoken(language):
        told = {words: saying.retold(words) for words in refusals()}
    assert len(told) > 400
    assert not {words: (refusals()[words], now) for words, now in told.items() if untold(now)}


EVENTS: list[dict[str, Any]] = [
    {"type": "phase", "name": "features", "detail": "some/model"}, {"type": "phase", "name": "intervals"},
    {"type": "columns", "choices": [{"role": "text_pair", "column": "b", "reason": "string, by its name"}]},
    {"type": "notice", "message": "new weights, trained from random: head.weight"},
    {"type": "warning", "message": "test: 3 of 9 rows dropped: 2 with no label; 1 with no text [rows: 4, 5, 6]"},
    {"type": "warning", "message": "leakage: 2 of 40 test rows (5.0%) look like rows of train (1 with the same text, "
     "1 with nearly the same text); scores on them measure memory [rows: 1, 2]"},
    {"type": "tuned", "attention": "sdpa", "threads": 2, "bf16": False},
    {"type": "chosen", "settings": [
        {"name": "learning rate", "value": "2e-05, 5e-05", "origin": "measured",
         "reason": "the best of these; 22.7 M weights of bert"},
        {"name": "train.max_steps", "value": 100, "origin": "rule", "reason": "70 training rows, 16 in an update: 3.0 "
         "epochs"},
    ]},
    {"type": "tried", "name": "2e-05", "learning_rate": 2e-5, "judged_by": "loss", "loss": 0.5},
    {"type": "tried", "name": "2e-05", "learning_rate": 2e-5},
    {"type": "checkpoint", "step": 5}, {"type": "checkpoint_pushed", "name": "checkpoint-5", "step": 5},
    {"type": "checkpoint_not_pushed", "name": "the last checkpoint", "step": 5, "message": "not done 60 s after "
     "training ended"},
    {"type": "stopped", "message": "stopped at step 5", "step": 5}, {"type": "done", "seconds": 200.0},
    {"type": "failed", "message": "the loss is not finite at step 3"},
]  # fmt: skip


@pytest.mark.parametrize("language", OTHERS)
def test_what_happened_is_shown_in_the_language_of_who_looks(language: str, tmp_path: Path) -> None:
    view = View(tmp_path)
    for event in EVENTS:
        view.fold({"time": 1.0, **event})
    with saying.spoken(language):
        lines = re.findall("<span>(.*?)</span>", train_view.timeline(view))
    assert len(lines) == len(EVENTS) + 1
    assert not [one for one in lines if untold(one)]
    english = re.findall("<span>(.*?)</span>", train_view.timeline(view))
    assert "New weights, trained from random: head.weight" in english and "Checkpoint at step 5" in english


def test_the_form_with_the_most_words_is_taken_and_names_stay() -> None:
    """A label that is called as one of our words, and a column of an English name."""
    with saying.spoken("zh"):
        assert saying.retold("classes text, none found missing from test") == "test 中缺少类别 text, none found"
        assert saying.retold(
            "`by chance` holds values of several types, read as the texts that were written"
        ).startswith("`by chance` ")
        assert saying.begun("training") == saying.begun("Training") == "训练"
