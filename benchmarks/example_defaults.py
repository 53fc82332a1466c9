"""transformers' text-classification example: python -m benchmarks.example_defaults DIR MODEL EPOCHS SEED

The example (examples/pytorch/text-classification/run_classification.py) ships in transformers' repository, not in its
package; this states its defaults again: every row padded to 128 tokens, batches of 8, float32, AdamW at 5e-5, linear
decay, the model's own loss, a checkpoint every 500 steps, no evaluation in between. Its default of 3 epochs is left to
EPOCHS. Reads DIR/{train,test}.jsonl with `text` and `label`, prints one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
    logging,
    set_seed,
)


def main(folder: Path, model: str, epochs: float, seed: int) -> None:
    """Train for `epochs`, evaluate on test, print examples per second, seconds of training and accuracy."""
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows: dict[str, Any] = {}
    names: list[str] = []
    for split in ("train", "test"):
        raw = datasets.Dataset.from_json(str(folder / f"{split}.jsonl"))
        names = sorted(raw.unique("label")) if split == "train" else names
        rows[split] = raw.map(partial(encoded, tokenizer, names), batched=True)
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(names), dtype=torch.float32)
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(output, num_train_epochs=epochs, seed=seed, disable_tqdm=True, report_to="none")
        trainer = Trainer(
            network, arguments, train_dataset=rows["train"], data_collator=default_data_collator,
            processing_class=tokenizer,
        )  # fmt: skip
        trained = trainer.train().metrics
        output_ = trainer.predict(rows["test"])
    accuracy = float(np.mean(output_.predictions.argmax(-1) == output_.label_ids))
    rate, seconds = trained["train_samples_per_second"], trained["train_runtime"]
    print(json.dumps({"examples_per_second": rate, "seconds": seconds, "accuracy": accuracy}))


def encoded(tokenizer: Any, names: Sequence[str], batch: dict[str, Any]) -> dict[str, Any]:
    """Return rows padded to the example's length, their labels as numbers."""
    found = tokenizer(batch["text"], padding="max_length", max_length=128, truncation=True)
    return {**found, "label": [names.index(label) for label in batch["label"]]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
