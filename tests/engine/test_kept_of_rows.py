"""What is kept of each row while a model that writes is measured: sums at validation, a text and two numbers after."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hftransfer import catalog
from hftransfer.fitting import trainer
from hftransfer.fitting.interruption import Interruption
from hftransfer.modeling import inference
from hftransfer.modeling.batches import moved
from hftransfer.runs import Run
from hftransfer.training import set_scene
from tests import tiny_causal, tiny_heard, tiny_written
from tests.engine.conftest import QUICK

PLACE = 600  # bytes that a row's answer may take, pickled


def tree(kind: str, folder: Path) -> dict[str, Any]:
    if kind == "chat":
        rows = tiny_causal.written(folder / "rows.jsonl", tiny_causal.rows("messages", 60))
        task, model = "text-generation", tiny_causal.causal_model(folder / "model")
    elif kind == "translation":
        rows = tiny_written.pairs_jsonl(folder / "rows.jsonl", 60)
        task, model = "translation", tiny_written.written_model(folder / "model", "marian")
    else:
        rows = tiny_heard.spoken_folder(folder / "rows", 40)
        task = "automatic-speech-recognition"
        model = tiny_heard.whisper(folder / "model") if kind == "whisper" else tiny_heard.heard_model(folder / "model")
    section = {"source": str(rows), "likely_copies": False, "test_size": 12, "validation_size": 12}
    evaluation = {"max_new_tokens": 4} | ({"forgetting": False} if kind == "chat" else {})
    return {**QUICK, "task": task, "model": str(model), "data": section, "evaluation": evaluation}


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "chat", "translation"])
def test_neither_logits_nor_labels_outlive_their_batch(kind, tmp_path):
    built = catalog.build_config(tree(kind, tmp_path))
    with Interruption() as interruption:
        scene = set_scene(built, Run.create(built, tmp_path / "run"), interruption, resume=False)
    setup, model = scene.setup, scene.loaded.model.eval()
    prepared, answer = setup.prepared["validation"], setup.answer
    summed = trainer.validation_metrics(setup)
    assert isinstance(summed, trainer.Summed)
    rows, found = [], {}
    with torch.inference_mode(), inference.answering(model):
        for start in range(0, 12, 3):
            batch = moved(setup.collator(prepared.items(range(start, start + 3))), "cpu")
            labels = batch.pop("labels")
            kept = answer.reduce(model(**batch)["logits"], labels)
            rows.append(kept.numpy())
            output = transformers.EvalPrediction(predictions=kept, label_ids=labels)
            found = summed(output, compute_result=start == 9)
            assert np.shape(summed.total) in ((), (1, 3)), "however many rows there were"
    assert found == pytest.approx(answer.validation(np.concatenate(rows), np.empty(0)))

    held: list[int] = []
    asked = type(answer).ask

    def counted(self: Any, *given: Any) -> Any:
        outputs = asked(self, *given)
        held.extend(len(pickle.dumps(one)) for one in outputs)
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(answer), "ask", counted)
        outputs = trainer.predict(setup, model, prepared)
    assert len(outputs) == len(held) == 12 and max(held) < PLACE, "as many bytes a row, whatever stands beside it"
    assert all(one.text is not None and one.tokens for one in outputs)
