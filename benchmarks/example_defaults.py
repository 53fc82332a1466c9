"""transformers' text-classification example at its defaults, on given rows: python -m benchmarks.example_defaults DIR

The example script ships in transformers' repository, not in its package; this states its defaults again: batches of 8
padded to 128 tokens, float32, AdamW at 5e-5, linear decay, the model's own loss. Reads DIR/{train,test}.jsonl with
`text` and `label`, prints one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

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


def main(folder: Path, model: str, epochs: float) -> None:
    """Train for `epochs`, evaluate on test, print examples per second and accuracy."""
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    set_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = {}
    for split in ("train", "test"):
        raw = datasets.Dataset.from_json(str(folder / f"{split}.jsonl"))
        rows[split] = raw.map(
            lambda batch: tokenizer(batch["text"], padding="max_length", max_length=128, truncation=True), batched=True
        )
    network = AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=int(max(rows["train"]["label"])) + 1, dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(output, num_train_epochs=epochs, disable_tqdm=True, report_to="none")
        trainer = Trainer(
            network, arguments, train_dataset=rows["train"], data_collator=default_data_collator,
            processing_class=tokenizer,
        )  # fmt: skip
        trained = trainer.train().metrics
        output_ = trainer.predict(rows["test"])
    accuracy = float(np.mean(output_.predictions.argmax(-1) == output_.label_ids))
    print(json.dumps({"examples_per_second": trained["train_samples_per_second"], "accuracy": accuracy}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
