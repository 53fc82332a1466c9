"""The SetFit package at its defaults on given rows: python -m benchmarks.setfit_defaults DIR MODEL SEED LENGTH STEPS

Runs in the environment of setfit-requirements.txt. The body is MODEL with the mean of its tokens, normalised, as
all-MiniLM-L6-v2 is published; the head is SetFit's logistic regression. Where the default epoch of pairs takes more
than STEPS steps (0: no bound), it is STEPS steps of drawn pairs. Reads DIR/{train,test}.jsonl with `text` and `label`,
prints one JSON line.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import setfit
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from setfit.sampler import ContrastiveDataset
from sklearn.linear_model import LogisticRegression


def main(folder: Path, model: str, seed: int, length: int, most: int) -> None:
    """Train once, answer the test rows, print accuracy, seconds of training, steps taken and steps of the default."""
    datasets.disable_progress_bars()
    transformers.set_seed(seed)
    rows = {split: read(folder / f"{split}.jsonl") for split in ("train", "test")}
    names = sorted(set(rows["train"]["label"]))
    labels = {split: [names.index(label) for label in rows[split]["label"]] for split in rows}
    network = setfit.SetFitModel(model_body=body(model, length), model_head=LogisticRegression())
    with tempfile.TemporaryDirectory() as output:
        arguments = setfit.TrainingArguments(output, seed=seed, show_progress_bar=False, report_to="none")
        pairs = ContrastiveDataset(rows["train"]["text"], labels["train"], False, sampling_strategy="oversampling")
        default = math.ceil(len(pairs) / arguments.embedding_batch_size) * arguments.embedding_num_epochs
        if 0 < most < default:
            arguments.max_steps = most
        train = datasets.Dataset.from_dict({"text": rows["train"]["text"], "label": labels["train"]})
        trainer = setfit.Trainer(network, arguments, train_dataset=train)
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        steps = trainer.st_trainer.state.global_step
    answers = np.asarray(network.predict(rows["test"]["text"], as_numpy=True))
    accuracy = float(np.mean(answers == np.asarray(labels["test"])))
    print(json.dumps({"accuracy": accuracy, "seconds": seconds, "steps": steps, "default_steps": default}))


def body(model: str, length: int) -> SentenceTransformer:
    """Return the encoder as sentence-transformers would publish it."""
    encoder = Transformer(model, max_seq_length=length)
    pooling = Pooling(encoder.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[encoder, pooling, Normalize()], device="cpu")


def read(path: Path) -> dict[str, Any]:
    """Return the columns of a file of JSON lines."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {name: [row[name] for row in rows] for name in ("text", "label")}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]))
