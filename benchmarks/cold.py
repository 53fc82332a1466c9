"""One text answered in a process of its own, by Predictor or by transformers alone; nothing else is imported first.

For a line of JSON: python -m benchmarks.cold {hftransfer|transformers} FOLDER TEXT
"""

from __future__ import annotations

import json
import sys
import time


def ours(folder: str, text: str) -> dict[str, float]:
    """Return the seconds of a first answer as `hftransfer predict` gives it: imports, loading, asking."""
    began = time.perf_counter()
    from hftransfer import imports

    with imports.uncollected():
        from hftransfer.predictor import Predictor

    imported = time.perf_counter()
    predictor = Predictor(folder)
    loaded = time.perf_counter()
    predictor(text)
    return {"imports": imported - began, "loading": loaded - imported, "answering": time.perf_counter() - loaded}


def theirs(folder: str, text: str) -> dict[str, float]:
    """Return the seconds of the shortest script that asks the same model."""
    began = time.perf_counter()
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    imported = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    loaded = time.perf_counter()
    with torch.inference_mode():
        model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)
    return {"imports": imported - began, "loading": loaded - imported, "answering": time.perf_counter() - loaded}


if __name__ == "__main__":
    who, place, words = sys.argv[1:4]
    print(json.dumps((ours if who == "hftransfer" else theirs)(place, words)))
