"""Every form of every architecture: what the probe is fitted to is what the checkpoint's own head is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from hftransfer import catalog, config, features, forms, objectives, probing, training
from hftransfer.interruption import Interruption
from hftransfer.runs import Run
from hftransfer.training import Scene
from tests import tiny
from tests.engine.conftest import QUICK

# weights so large that the first token says something of the others: a GELU's offset rounds smaller differences off
LARGE: dict[str, Any] = {"hidden_size": 32, "initializer_range": 0.2, "pad_token_id": 0}
MORE: dict[str, Callable[[], Any]] = {
    "electra": lambda: transformers.ElectraConfig(**{**tiny.SMALL, **LARGE, "embedding_size": 32}),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **{**tiny.SMALL, **LARGE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    ),
    "mpnet": lambda: transformers.MPNetConfig(**{**tiny.SMALL, "pad_token_id": 0}),
}


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


def fitted(found: Scene, form: forms.Form) -> tuple[probing.Head, features.Features]:
    train, test = (features.extract(found.setup, found.loaded, split, exact=True) for split in ("train", "test"))
    layer = found.loaded.model.get_submodule(features.output_layer(found.loaded.model, found.setup.labels))
    return (
        probing.fit(
            form.shown(train.pooled),
            train.targets,
            found.setup.labels.kind,
            found.setup.labels.outputs,
            strengths=[1e-2],
            validation=(form.shown(test.pooled), test.targets),
            intercept=layer.bias is not None,
        ),
        test,
    )


EXPECTED = {
    "bert": {"head", "first", "mean", "first_and_mean"},
    "roberta": {"first", "mean", "first_and_mean"},
    "distilbert": {"first", "mean", "first_and_mean"},
    "electra": {"first", "mean", "first_and_mean"},
    "deberta-v2": {"first", "mean", "first_and_mean"},
    "mpnet": {"first"},
    "modernbert": {"first", "mean"},
    "llama": {"head"},
}


@pytest.mark.parametrize("architecture", EXPECTED)
def test_a_plain_checkpoint_answers_as_the_probe_does(
    architecture: str, scene: Callable[..., Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, build in MORE.items():
        monkeypatch.setitem(tiny.TEXT, name, build)
    model = tiny.text_model(tmp_path / "model", architecture)
    found = scene("text-classification", model, tiny.text_csv(tmp_path / "rows.csv", 90))
    train = features.extract(found.setup, found.loaded, "train")
    offered = forms.forms(found.loaded.model, found.setup.labels, train.pooled, found.loaded.fresh)
    assert {form.name for form in offered} == EXPECTED[architecture]
    texts = list(found.data.splits["test"]["text"])
    for form in offered:
        head, test = fitted(found, form)
        built = form.build()
        forms.set_output(built, found.setup.labels, head.weight, head.bias)
        folder = tmp_path / form.name
        built.save_pretrained(folder)
        found.setup.processor.save_pretrained(folder)
        pipeline = transformers.pipeline("text-classification", str(folder), device="cpu")
        answers = [{a["label"]: a["score"] for a in row} for row in pipeline(texts, top_k=None, batch_size=7)]
        expected = objectives.probabilities("single_label", head.logits(form.shown(test.pooled)))
        got = np.array([[row[name] for name in found.setup.labels.names] for row in answers])
        assert expected.std() > 0.01  # it tells the rows apart
        np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=form.name)


@pytest.mark.parametrize("architecture", tiny.IMAGE)
def test_a_picture_model_answers_as_the_probe_does(
    architecture: str, scene: Callable[..., Scene], tmp_path: Path
) -> None:
    model = tiny.image_model(tmp_path / "model", architecture)
    found = scene("image-classification", model, tiny.image_folder(tmp_path / "pictures", 40))
    (form,) = forms.forms(found.loaded.model, found.setup.labels, {}, found.loaded.fresh)
    head, test = fitted(found, form)
    built = form.build()
    forms.set_output(built, found.setup.labels, head.weight, head.bias)
    built.save_pretrained(tmp_path / "probe")
    found.setup.processor.save_pretrained(tmp_path / "probe")
    pipeline = transformers.pipeline("image-classification", str(tmp_path / "probe"), device="cpu")
    answers = [{a["label"]: a["score"] for a in pipeline(row["image"])} for row in found.data.splits["test"]]
    expected = objectives.probabilities("single_label", head.logits(form.shown(test.pooled)))
    got = np.array([[row[name] for name in found.setup.labels.names] for row in answers])
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
