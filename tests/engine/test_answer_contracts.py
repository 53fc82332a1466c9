"""What every kind of answer keeps, whatever file of hftransfer/answers it is: the engine builds on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch

from hftransfer import answers, views
from hftransfer.answers import _found_masks, _runs
from hftransfer.answers._lists import Listed, Relevant
from hftransfer.answers._mask_files import to_png
from hftransfer.answers._prose import Generated
from hftransfer.answers._spans import Place
from hftransfer.answers.base import Answer
from hftransfer.answers.captions import Placed as Shown
from hftransfer.answers.continuation import Reference
from hftransfer.answers.ranking import Placed
from hftransfer.answers.span import Found
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reporting import baseline, trivial_answers
from tests import tiny

N, CLASSES = 24, ("a", "b", "c")
TAGS = ("O", "B-PER", "I-PER")


class Kind(NamedTuple):
    """Rows of a kind, outputs for them that are right at times, and such that are right always; a batch to learn."""

    answer: Answer[Any]
    truth: Any
    outputs: Any
    faultless: Any
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]  # logits and labels of 16 items


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _certain(truth: np.ndarray, classes: int) -> np.ndarray:
    return np.where(np.eye(classes)[truth] == 1, 1.0 - 1e-9, 1e-9 / (classes - 1))


def _noisy(truth: np.ndarray, classes: int) -> np.ndarray:
    scores = _rng().random((len(truth), classes)) + 0.6 * np.eye(classes)[truth]
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def single_label() -> Kind:
    truth = _rng().integers(0, 3, N)
    return Kind(
        tiny.answer("single_label", CLASSES, (9, 8, 7), 24), truth, _noisy(truth, 3), _certain(truth, 3),
        lambda: (torch.randn(16, 3), torch.arange(16) % 3),
    )  # fmt: skip


def multi_label() -> Kind:
    truth = (_rng().random((N, 3)) < 0.5).astype(np.int64)
    scores = np.clip(0.4 * truth + 0.6 * _rng().random((N, 3)), 0.01, 0.99)
    return Kind(
        tiny.answer("multi_label", CLASSES, (9, 8, 13), 24), truth, scores, truth.astype(float),
        lambda: (torch.randn(16, 3), (torch.rand(16, 3) < 0.5).float()),
    )  # fmt: skip


def regression() -> Kind:
    truth = _rng().normal(size=N)
    return Kind(
        tiny.answer("regression", rows=24, total=3.0), truth, truth + _rng().normal(size=N), truth.copy(),
        lambda: (torch.randn(16, 1), torch.randn(16)),
    )  # fmt: skip


def tags() -> Kind:
    truth = [_rng().integers(0, 3, size) for size in _rng().integers(1, 7, N)]
    labels = torch.randint(0, 3, (16, 5))
    labels[::3, 2:] = -100  # sentences differ in length
    return Kind(
        tiny.answer("tags", TAGS, (50, 20, 14), 84), truth, [_noisy(row, 3) for row in truth],
        [_certain(row, 3) for row in truth], lambda: (torch.randn(16, 5, 3), labels),
    )  # fmt: skip


def text() -> Kind:
    rng, words = _rng(), ["un", "chat", "voit", "la", "grande", "maison"]
    truth = [" ".join(rng.choice(words, size=rng.integers(4, 8))) for _ in range(N)]  # pairs of words in each
    outputs = [
        Generated(" ".join(row.split()[::-1]), float(rng.random() * 5 + 0.1), 3 + i % 4) for i, row in enumerate(truth)
    ]
    labels = torch.randint(4, 30, (16, 6))
    labels[::3, 2:] = -100  # targets differ in length
    return Kind(
        tiny.answer("text", most_common="un chat", lead=3, metric_names=["chrf", "bleu", "perplexity"],
                    trivial="most_common"),
        truth, outputs, [Generated(row, 0.0, 3) for row in truth], lambda: (torch.randn(16, 6, 30), labels),
    )  # fmt: skip


def span() -> Kind:
    rng, words = _rng(), ["cat", "grey dog", "old house", "boat"]
    truth = [() if i % 4 == 0 else tuple(rng.choice(words, size=1 + i % 2)) for i in range(N)]

    def found(text: str, none: float) -> Found:
        return Found((Place(text, 0, len(text), 1.0), Place("house", 2, 7, 0.5)), none)

    outputs = [found(str(rng.choice(words)), float(rng.normal())) for _ in range(N)]
    labels = torch.stack([torch.arange(16) % 5, torch.arange(16) % 5 + 1], dim=1)
    labels[::3] = -100  # rows whose answer no window holds
    return Kind(
        tiny.answer("span", rows=24, unanswerable=6, within="text", threshold=0.25), truth, outputs,
        [found(str(row[0]), -9.0) if row else found("cat", 9.0) for row in truth],
        lambda: (torch.randn(16, 2, 8), labels),
    )  # fmt: skip


def continuation() -> Kind:
    made = text()
    truth = [Reference(row, 4.0 + i % 3, 3) for i, row in enumerate(made.truth)]
    labels = torch.randint(0, 30, (16, 6))
    labels[:, 0], labels[::3, 3:] = -100, -100  # nothing tells the first token; rows differ in length
    return Kind(
        tiny.answer("continuation", most_common="un chat", metric_names=["perplexity", "chrf"]),
        truth, made.outputs, made.faultless, lambda: (torch.randn(16, 6, 30), labels),
    )  # fmt: skip


def transcript() -> Kind:
    made = text()
    return made._replace(answer=tiny.answer("transcript", most_common="un chat", empty=False, metric_names=[
        "wer", "cer", "wer_normalized", "cer_normalized", "perplexity"]))  # fmt: skip


def ranking() -> Kind:
    rng = _rng()
    truth = [f"text {i}" for i in range(N)]

    def placed(i: int, rank: int) -> Placed:
        return Placed(tuple(np.float32(rng.normal(size=4)).tolist()), rank, N, 0.5, truth[i - rank])

    return Kind(
        tiny.answer("ranking", rows=24, temperature=0.05), truth, [placed(i, 1 + i % 14) for i in range(N)],
        [placed(i, 1) for i in range(N)], lambda: (torch.randn(16, 2, 8), torch.arange(32).view(16, 2)),
    )  # fmt: skip


def likeness() -> Kind:
    truth = _rng().random(N)
    return Kind(
        tiny.answer("likeness", low=0.0, high=1.0, rows=24), truth, truth + _rng().normal(size=N), truth.copy(),
        lambda: (torch.randn(16, 2, 8), torch.rand(16)),
    )  # fmt: skip


def boxes() -> Kind:
    rng, size, truth, outputs, faultless = _rng(), np.array([320.0, 240.0]), [], [], []
    for count in rng.integers(0, 4, N):
        place = np.concatenate([rng.uniform(0, 80, (count, 2)), rng.uniform(9, 160, (count, 2))], 1)
        kinds = rng.integers(0, 3, count)
        truth.append(np.column_stack([place, kinds, np.zeros(count), np.tile(size, (count, 1))]))
        found = np.column_stack([place + rng.normal(0, 1, (count, 4)), rng.random(count), kinds])
        outputs.append(found[np.argsort(-found[:, 4])].astype(np.float32))
        faultless.append(np.column_stack([place, np.linspace(1, 0.9, count), kinds]))
    labels = torch.randint(0, 3, (16, 3, 5))
    labels[::3, 1:] = -100  # pictures hold one box or three
    return Kind(
        tiny.answer("boxes", CLASSES, (9, 8, 7), 24, usual=[0.3, 0.4, 320.0, 240.0], threshold=0.25),
        truth, outputs, faultless, lambda: (torch.randn(16, 3), labels),
    )  # fmt: skip


def captions() -> Kind:
    rng = _rng()
    truth = [(f"text {i}", "the same")[: 1 + i % 2] for i in range(N)]

    def placed(i: int, rank: int) -> Shown:
        scores = tuple(np.float32(rng.random(2)).tolist())
        return Shown(("a", "b"), scores, rank, (rank,) * len(truth[i]), N + 1, N, len(truth[i]), 1, truth[i][0])

    return Kind(
        tiny.answer("captions", rows=24, choices=("a", "b"), family="clip", longest=77, fill=0, fixed=False,
                    masked=True),
        truth, [placed(i, 1 + i % 14) for i in range(N)], [placed(i, 1) for i in range(N)],
        lambda: (torch.randn(16, 2, 8), torch.arange(16).view(16, 1)),
    )  # fmt: skip


def mask() -> Kind:
    rng = _rng()
    sizes = [(int(rng.integers(6, 12)), int(rng.integers(6, 12))) for _ in range(N)]
    drawn = [rng.integers(0, 3, size).astype(np.uint8) for size in sizes]
    noisy = [np.where(rng.random(one.shape) < 0.5, one, rng.integers(0, 3, one.shape)) for one in drawn]
    for one in drawn[::5]:
        one[0] = 255  # pixels that do not count
    labels = torch.randint(0, 3, (16, 8, 8))
    labels[::3, 2:] = -100
    whole = [np.where(one == 255, 1, one) for one in drawn]
    return Kind(
        tiny.answer("mask", CLASSES, (900, 800, 700), 24, values=[0, 1, 2], coloured=False, ignored=255, background=0,
                    pictures=[24, 24, 24], usual=[0, 1, 2, 1] * 64, queries=False),
        *([to_png(one) for one in rows] for rows in (drawn, noisy, whole)),
        lambda: (torch.randn(16, 3, 4, 4), labels),
    )  # fmt: skip


def instances() -> Kind:
    made, size = boxes(), (320, 240)  # the same things, each of which fills its box

    def filled(rows: list[np.ndarray]) -> list[bytes]:
        found = []
        for row in rows:
            runs = [_runs.of_box(one[:4], size) for one in row]
            table = [[*_runs.box_of(counts, 240), *one[4:6], *size] for counts, one in zip(runs, row, strict=True)]
            found.append(_found_masks.packed(np.array(table), runs))
        return found

    labels = torch.randint(0, 2, (16, 3, 2))
    labels[::3, 1:] = -100
    return Kind(
        tiny.answer("instances", CLASSES, (9, 8, 7), 24, usual=[0.3, 0.4, 320.0, 240.0], threshold=0.25),
        *map(filled, (made.truth, made.outputs, made.faultless)), lambda: (torch.randn(16, 3), labels),
    )  # fmt: skip


def ranked_items() -> Kind:
    rng = _rng()
    names = [f"item {i}" for i in range(30)]
    truth = [tuple(Relevant(name, 1.0 + i % 2, i % 5 == 0) for name in names[i : i + 1 + i % 3]) for i in range(N)]

    def listed(ids: tuple[str, ...]) -> Listed:
        vector = rng.normal(size=4).astype(np.float32).tobytes()
        return Listed(vector, ids, tuple(np.linspace(1, 0.5, len(ids), dtype=np.float32).tolist()), 30, (0.5, 0.25))

    faultless = [tuple(one.id for one in sorted(row, key=lambda one: -one.grade)) for row in truth]
    return Kind(
        tiny.answer("ranked_items", temperature=0.05, recommends=True, rows=24, size=30, negatives=0), truth,
        [listed(tuple(rng.permutation(names)[:12].tolist())) for _ in range(N)], [listed(row) for row in faultless],
        lambda: (torch.randn(16, 2, 8), torch.arange(32).view(16, 2)),
    )  # fmt: skip


KINDS: dict[str, Callable[[], Kind]] = {
    "single_label": single_label, "multi_label": multi_label, "regression": regression, "tags": tags, "text": text,
    "continuation": continuation, "span": span, "ranking": ranking, "likeness": likeness,
    "transcript": transcript, "ranked_items": ranked_items, "mask": mask, "boxes": boxes, "captions": captions,
    "instances": instances,
}  # fmt: skip
EVERY = pytest.mark.parametrize("kind", KINDS)


def test_every_file_of_the_folder_is_here() -> None:
    assert set(KINDS) == set(answers.kinds())


@EVERY
def test_what_is_stored_comes_back(kind: str) -> None:
    made = KINDS[kind]()
    columns = made.answer.columns(made.truth, made.outputs)
    assert list(columns)[:2] == ["label", "prediction"]
    truth, outputs = made.answer.from_columns(pa.table(columns).combine_chunks())
    again = made.answer.columns(truth, outputs)
    assert all(again[name].equals(columns[name]) for name in columns)
    for before, after in ((made.truth, truth), (made.outputs, outputs)):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            if isinstance(one, str | tuple | bytes):
                assert one == other
            else:
                assert np.allclose(one, other, atol=1e-7)  # scores are stored as float32


@EVERY
def test_a_weighted_score_is_that_of_resampled_rows(kind: str) -> None:
    """So a bootstrap, one over groups, a paired test and a sum over processes are all weights times statistics."""
    made = KINDS[kind]()
    answer = made.answer
    drawn = np.random.default_rng(3).integers(0, N, (5, N))
    weights = np.stack([np.bincount(rows, minlength=N) for rows in drawn], axis=1).astype(np.float64)
    sample = answer.sample(answer.outcomes(made.truth, made.outputs), weights)
    for name, metric in answer.metrics.items():
        weighted = metric.value(sample)
        for rows, value in zip(drawn, weighted, strict=True):
            truth, outputs = ([part[i] for i in rows] for part in (made.truth, made.outputs))
            if isinstance(made.truth, np.ndarray):
                truth = np.array(truth)
            if isinstance(made.outputs, np.ndarray):
                outputs = np.array(outputs)
            expected = metric.value(answer.sample(answer.outcomes(truth, outputs), np.ones((N, 1))))[0]
            assert value == pytest.approx(expected, abs=1e-6, nan_ok=True), name


@EVERY
def test_four_batches_of_four_are_one_of_sixteen(kind: str) -> None:
    """Loss and gradient of an update do not depend on how it is cut, on one process or on several."""
    torch.manual_seed(0)
    made = KINDS[kind]()
    if made.answer.compares:
        pytest.skip("an update of such rows is one batch, whatever it is cut into: its own tests say how")
    logits, labels = made.batch()
    counted = int((labels != -100).sum()) if labels.dtype == torch.int64 else len(labels)
    loss, grown = made.answer.loss(), []
    for size in (16, 4):
        asked = logits.clone().requires_grad_()
        parts = [
            loss(_outputs(asked[i : i + size], kind), labels[i : i + size], torch.tensor(counted))
            for i in range(0, 16, size)
        ]
        total = torch.stack(parts).sum()
        total.backward()
        grown.append((total.item(), asked.grad.clone()))
    assert grown[0][0] == pytest.approx(grown[1][0], rel=1e-6)
    assert torch.allclose(grown[0][1], grown[1][1], rtol=1e-5, atol=1e-8)


def _outputs(logits: torch.Tensor, kind: str) -> dict[str, torch.Tensor]:
    """Return logits as models of the kind give them."""
    if kind in ("boxes", "instances"):  # of which models give a sum, and not the parts
        return {"loss": logits.square().sum()}
    if kind == "likeness":
        return {"vectors": logits}
    if kind == "span":
        return {"start_logits": logits[:, 0], "end_logits": logits[:, 1]}
    return {"logits": logits}


@EVERY
def test_it_is_restored_from_what_is_written(kind: str) -> None:
    answer = KINDS[kind]().answer
    written = json.loads(json.dumps(answer.to_dict()))
    again = answers.restore(written)
    assert again == answer and again.same_as(answer) and written["kind"] == kind


@EVERY
def test_answers_are_json_and_have_a_view(kind: str) -> None:
    made = KINDS[kind]()
    for output in made.outputs:
        row = {"text": "a", "words": ["w"] * np.size(output[:, 0])} if kind == "tags" else {"text": "a"}
        answer = made.answer.to_json(row, output)
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        view = made.answer.view(answer)
        assert views.line(view) and views.from_dict(json.loads(json.dumps(views.to_dict(view)))) == view
        assert made.answer.distance(answer, answer) == 0


@EVERY
def test_faultless_answers_have_the_perfect_score(kind: str) -> None:
    made = KINDS[kind]()
    answer = made.answer
    found = answer.sample(answer.outcomes(made.truth, made.faultless), np.ones((N, 1)))
    told = [name for name, metric in answer.metrics.items() if metric.perfect is not None]
    assert told or kind in ("regression", "likeness")  # whose errors have no bound
    for name in told:
        assert answer.metrics[name].value(found)[0] == pytest.approx(answer.metrics[name].perfect, abs=1e-6), name
    assert all(answer.badness(one, output) < 1e-6 for one, output in zip(made.truth, made.faultless, strict=True))


@EVERY
def test_the_trivial_answer_has_an_interval(kind: str) -> None:
    made = KINDS[kind]()
    found = Predictions(made.answer, [str(i) for i in range(N)], made.truth, made.outputs)
    block = baseline(trivial_answers(found), resamples=200)
    assert block["name"] and block["about"]
    score = block["metrics"][made.answer.main_metric]
    assert score["low"] <= score["value"] <= score["high"]
