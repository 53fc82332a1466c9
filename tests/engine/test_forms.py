"""Every form of every architecture: what the probe is fitted to is what the checkpoint's own head is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hftransfer import catalog, config, training
from hftransfer.errors import UserError
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting.interruption import Interruption
from hftransfer.frozen import dense_head, features, pooling_heads, probing
from hftransfer.runs import Run
from hftransfer.training import Scene
from tests import tiny
from tests.engine.conftest import QUICK

# weights so large that the first token says something of the others: a GELU's offset rounds smaller differences off
LARGE: dict[str, Any] = {"hidden_size": 32, "initializer_range": 0.2, "pad_token_id": 0}
MARKS = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
MORE: dict[str, Callable[[], Any]] = {
    "electra": lambda: transformers.ElectraConfig(**{**tiny.SMALL, **LARGE, "embedding_size": 32}),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **{**tiny.SMALL, **LARGE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    ),
    "mpnet": lambda: transformers.MPNetConfig(**{**tiny.SMALL, "pad_token_id": 0}),
    "deberta": lambda: transformers.DebertaConfig(
        **{**tiny.SMALL, **LARGE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    ),
    "albert": lambda: transformers.AlbertConfig(**{**tiny.SMALL, "pad_token_id": 0, "embedding_size": 16}),
    "xlnet": lambda: transformers.XLNetConfig(
        vocab_size=48, d_model=32, n_layer=2, n_head=2, d_inner=64, initializer_range=0.2, **MARKS
    ),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=48, n_embd=32, n_layer=2, n_head=2, n_positions=64, **MARKS),
    "bart": lambda: transformers.BartConfig(
        vocab_size=48, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, init_std=0.2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
        decoder_start_token_id=3, forced_eos_token_id=3, **MARKS,
    ),
    "t5": lambda: transformers.T5Config(
        vocab_size=48, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0, **MARKS
    ),
}  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., Scene]:
    """Return a function that loads a configuration's data and model."""

    def load(task: str, model: Path, source: Path, *overrides: str) -> Scene:
        tree = {
            **QUICK,
            "task": task,
            "model": str(model),
            "data": {"source": str(source)},
            "method": {"name": "probe"},
        }
        built = catalog.build_config(config.override(tree, overrides))
        with Interruption() as interruption:
            return training.set_scene(built, Run.create(built, tmp_path / "run"), interruption, resume=False)

    return load


def fitted(found: Scene, form: pooling_heads.Form) -> tuple[probing.Head, features.Features]:
    train, test = (features.extract(found.setup, found.loaded, split, exact=True) for split in ("train", "test"))
    layer = found.loaded.model.get_submodule(features.output_layer(found.loaded.model, found.setup.answer))
    return (
        probing.fit(
            form.shown(train.pooled),
            train.targets,
            found.setup.answer.linear,
            found.setup.answer.outputs,
            strengths=[1e-2],
            validation=(form.shown(test.pooled), test.targets),
            intercept=layer.bias is not None,
        ),
        test,
    )


ARCHITECTURES = {
    "BERT": "bert", "RoBERTa": "roberta", "DistilBERT": "distilbert", "ELECTRA": "electra", "DeBERTa-v2": "deberta-v2",
    "ModernBERT": "modernbert", "MPNet": "mpnet", "DeBERTa": "deberta", "ALBERT": "albert", "XLNet": "xlnet",
    "BART": "bart", "T5": "t5", "GPT-2": "gpt2", "Llama": "llama",
}  # fmt: skip


def documented() -> dict[str, set[str]]:
    """Return the poolings of each architecture by the table in the documentation."""
    text = (Path(__file__).parents[2] / "docs" / "ladder.md").read_text(encoding="utf-8")
    table = text.partition("| architecture | poolings |\n| --- | --- |\n")[2].partition("\n\n")[0]
    found = {}
    for line in table.splitlines():
        names, poolings = line.strip("|").split("|")
        for name in re.split(r", | and ", names.strip()):
            if name in ARCHITECTURES:
                found[ARCHITECTURES[name]] = set(re.findall(r"`(\w+)`", poolings))
    return found


EXPECTED = documented()


def test_the_documentation_tells_of_every_architecture_here() -> None:
    assert set(EXPECTED) == set(ARCHITECTURES.values())


def trained_dense(found: Scene) -> tuple[pooling_heads.Form, probing.Head, features.Features] | None:
    """Return the form whose dense layer was trained with its head, where there is one."""
    train, test = (features.extract(found.setup, found.loaded, split, exact=True) for split in ("train", "test"))
    family = pooling_heads.trainable(found.loaded.model, found.setup.answer, train.pooled)
    if family is None:
        return None
    layer = found.loaded.model.get_submodule(features.output_layer(found.loaded.model, found.setup.answer))
    dense = dense_head.fit(
        train.pooled[family.takes], train.targets, found.setup.answer, family.activation,
        validation=(test.pooled[family.takes], test.targets), intercept=layer.bias is not None,
    )  # fmt: skip
    return pooling_heads.with_dense(found.loaded.model, family, dense), dense.head, test


@pytest.mark.parametrize("architecture", EXPECTED)
def test_a_plain_checkpoint_answers_as_the_probe_does(
    architecture: str, scene: Callable[..., Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, build in MORE.items():
        monkeypatch.setitem(tiny.TEXT, name, build)
    side = {"padding_side": "left"} if architecture == "xlnet" else {}  # as its own tokenizer pads
    model = tiny.text_model(tmp_path / "model", architecture, **side)
    found = scene("text-classification", model, tiny.text_csv(tmp_path / "rows.csv", 90))
    train = features.extract(found.setup, found.loaded, "train")
    offered = pooling_heads.forms(found.loaded.model, found.setup.answer, train.pooled, found.loaded.fresh)
    with_heads = [(form, *fitted(found, form)) for form in offered]
    dense = trained_dense(found)
    with_heads += [dense] if dense is not None else []
    assert {form.name for form, *_ in with_heads} == EXPECTED[architecture]
    texts = list(found.data.splits["test"]["text"])
    size = 1 if architecture == "xlnet" else 7  # the pipeline cannot split the memories that XLNet also returns
    for form, head, test in with_heads:
        built = form.build()
        pooling_heads.set_output(built, found.setup.answer, head.weight, head.bias)
        folder = tmp_path / form.name
        built.save_pretrained(folder)
        found.setup.processor.save_pretrained(folder)
        pipeline = transformers.pipeline("text-classification", str(folder), device="cpu")
        answers = [{a["label"]: a["score"] for a in row} for row in pipeline(texts, top_k=None, batch_size=size)]
        expected = found.setup.answer.of_logits(head.logits(form.shown(test.pooled)))
        got = np.array([[row[name] for name in found.setup.answer.names] for row in answers])
        assert expected.std() > 0.01  # it tells the rows apart
        np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=form.name)


@pytest.mark.parametrize("architecture", tiny.IMAGE)
def test_a_picture_model_answers_as_the_probe_does(
    architecture: str, scene: Callable[..., Scene], tmp_path: Path
) -> None:
    model = tiny.image_model(tmp_path / "model", architecture)
    found = scene("image-classification", model, tiny.image_folder(tmp_path / "pictures", 40))
    (form,) = pooling_heads.forms(found.loaded.model, found.setup.answer, {}, found.loaded.fresh)
    head, test = fitted(found, form)
    built = form.build()
    pooling_heads.set_output(built, found.setup.answer, head.weight, head.bias)
    built.save_pretrained(tmp_path / "probe")
    found.setup.processor.save_pretrained(tmp_path / "probe")
    pipeline = transformers.pipeline("image-classification", str(tmp_path / "probe"), device="cpu")
    answers = [{a["label"]: a["score"] for a in pipeline(row["image"])} for row in found.data.splits["test"]]
    expected = found.setup.answer.of_logits(head.logits(form.shown(test.pooled)))
    got = np.array([[row[name] for name in found.setup.answer.names] for row in answers])
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert (expected.argmax(axis=1) == test.targets).all()  # red and blue


def test_features_of_words_are_those_that_have_a_tag(scene: Callable[..., Scene], tmp_path: Path) -> None:
    found: Any = scene(
        "token-classification", tiny.text_model(tmp_path / "model"), tiny.token_jsonl(tmp_path / "rows.jsonl", 60),
        "data.max_length=6",
    )  # fmt: skip
    test = features.extract(found.setup, found.loaded, "test")
    tags = found.data.splits["test"]["tags"]
    assert set(test.pooled) == {"head"}
    assert test.targets.tolist() == [tag for row in tags for tag in row]
    assert np.bincount(test.rows).tolist() == [len(row) for row in tags]


def test_zero_queries_do_not_average_the_tokens_of_mpnet() -> None:
    """One bias by distance is added to the scores of every layer: without queries it alone weighs the tokens."""
    torch.manual_seed(0)
    model = transformers.MPNetModel(transformers.MPNetConfig(**{**tiny.SMALL, "initializer_range": 1.0})).eval()
    layer = model.encoder.layer[0].attention.attn
    with torch.inference_mode():
        for part in (layer.q, layer.k):
            for parameter in part.parameters():
                parameter.zero_()
        hidden = torch.randn(1, 9, 32)
        bias = model.encoder.compute_position_bias(hidden)
        weights = layer(hidden, position_bias=bias, output_attentions=True)[1][0, :, 0]
    expected = torch.softmax(bias[0, :, 0], dim=-1)
    torch.testing.assert_close(weights, expected)
    assert float((weights - 1 / 9).abs().max()) > 0.05


@pytest.mark.parametrize("activation", dense_head.ACTIVATIONS)
def test_a_dense_layer_finds_what_no_linear_head_can(activation: str) -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(900, 6)) * 3 + 1).astype(np.float32)
    targets = (values[:, 0] > 1).astype(int) ^ (values[:, 1] > 1)
    answer = tiny.answer("single_label", ("no", "yes"), (1, 1))
    train, aside = (values[:600], targets[:600]), (values[600:], targets[600:])
    dense = dense_head.fit(*train, answer, activation, aside)
    linear = probing.fit(*train, answer.linear, 2, aside)
    assert linear.loss > 0.6 > 0.3 > dense.head.loss
    again = answer.linear.loss(dense.head.logits(dense.shown(aside[0])), aside[1])
    assert again == pytest.approx(dense.head.loss, abs=1e-4)  # what was folded into the weights is what was chosen
    assert dense_head.fit(*train, answer, activation, aside).weight == pytest.approx(dense.weight)


@pytest.mark.parametrize("kind", ["regression", "multi_label"])
def test_a_dense_layer_for_numbers_and_several_labels(kind: Any) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(500, 4)).astype(np.float32)
    numbers = 40 + 10 * np.abs(values[:, 0])
    several = np.stack([values[:, 0] ** 2 > 0.5, values[:, 1] > 0], axis=1).astype(int)
    targets = numbers if kind == "regression" else several
    answer = tiny.answer(kind) if kind == "regression" else tiny.answer(kind, "ab", (1, 1))
    dense = dense_head.fit(values[:350], targets[:350], answer, "tanh", (values[350:], targets[350:]))
    linear = probing.fit(
        values[:350], targets[:350], answer.linear, answer.outputs, validation=(values[350:], targets[350:])
    )
    assert dense.head.loss < 0.6 * linear.loss


def test_a_probe_of_mpnet_takes_the_dense_layer_where_it_validates_better(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.TEXT, "mpnet", MORE["mpnet"])
    tree: dict[str, Any] = {
        "task": "text-classification",
        "model": str(tiny.text_model(tmp_path / "model", "mpnet")),
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 150)), "label_issues": False},
        "method": {"name": "probe"},
    }
    run, _ = train(tree)
    (told,) = [event for event in run.events()[0] if event["type"] == "probe"]
    assert set(told["losses"]) == {"first", "dense"}
    assert told["pooling"] == min(told["losses"], key=told["losses"].get)
    run, _ = train({**tree, "method": {"name": "probe", "poolings": ["dense"]}}, name="dense")
    found = Predictions.read_parquet(
        run.predictions / "test.parquet", tiny.answer("single_label", ("negative", "positive"))
    )
    ask = transformers.pipeline("text-classification", str(run.artifact), device="cpu", top_k=None)
    lines = [line.split(",")[0] for line in (tmp_path / "rows.csv").read_text().splitlines()[1:]]
    for row_id, scores in zip(found.row_ids[:5], found.outputs[:5], strict=True):
        answers = {a["label"]: a["score"] for a in ask(lines[int(row_id.rpartition(":")[2])])[0]}
        assert [answers["negative"], answers["positive"]] == pytest.approx(list(scores), abs=1e-4)
    with pytest.raises(UserError, match=r"pooling in method\.poolings"):
        train({**tree, "method": {"name": "probe", "poolings": ["mean"]}}, name="mean")
