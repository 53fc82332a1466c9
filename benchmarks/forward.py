"""The forward pass of a text model over a CSV file, alone: python -m benchmarks.forward MODEL FILE

In bf16 where the processor multiplies it, as training has it, batches of 32 rows of like length. Prints one JSON line.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging

from hftransfer.fitting.precision import quick_bf16


def main(model: str, file: Path) -> None:
    """Tokenize all rows, and time the passes."""
    logging.set_verbosity_error()
    with file.open(newline="", encoding="utf-8") as lines:
        texts = sorted((row["text"] for row in csv.DictReader(lines)), key=len)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    batches = [
        tokenizer(texts[at : at + 32], padding=True, truncation=True, return_tensors="pt")
        for at in range(0, len(texts), 32)
    ]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=quick_bf16()):
        network(**batches[0])
        began = time.perf_counter()
        for batch in batches:
            network(**batch)
    print(json.dumps({"rows": len(texts), "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
