"""sentence-transformers' trainer: python -m benchmarks.sentence_transformers_trainer DIR MODEL BATCH RATE STEPS LENGTH

Runs in the environment of setfit-requirements.txt. Reads DIR/rows.json with `train` (pairs), `test` (questions) and
`corpus` (passages); writes DIR/queries.npy and DIR/corpus.npy, and prints the seconds of training and in all.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import transformers
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer


def main(folder: Path, model: str, batch: int, rate: float, steps: int, length: int) -> None:
    """Train once and write the vectors of the test rows and of the corpus."""
    began = time.perf_counter()
    datasets.disable_progress_bars()
    transformers.set_seed(0)
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    encoder = Transformer(model, max_seq_length=length)
    pooling = Pooling(encoder.get_embedding_dimension(), pooling_mode="mean")
    network = SentenceTransformer(modules=[encoder, pooling, Normalize()], device="cpu")
    pairs = datasets.Dataset.from_dict(
        {"anchor": [a for a, _ in rows["train"]], "positive": [b for _, b in rows["train"]]}
    )
    with tempfile.TemporaryDirectory() as output:
        arguments = SentenceTransformerTrainingArguments(
            output, max_steps=steps, per_device_train_batch_size=batch, learning_rate=rate, seed=0, use_cpu=True,
            save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = SentenceTransformerTrainer(
            network, arguments, train_dataset=pairs, loss=MultipleNegativesRankingLoss(network, scale=20.0)
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    for name, texts in (("queries", rows["test"]), ("corpus", rows["corpus"])):
        np.save(folder / f"{name}.npy", network.encode(texts, batch_size=64, convert_to_numpy=True))
    print(json.dumps({"seconds": seconds, "whole": time.perf_counter() - began}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
