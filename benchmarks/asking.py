"""How much memory it takes to evaluate few rows and many, of a model that gives each token a score for every word."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Sizes, module
from benchmarks.page import Table, table

VOCABULARY = 32_000
FEW, MANY = 1_000, 10_000  # test rows
TRAIN = 200
WORDS = 12  # of a text


def measure(folder: Path, sizes: Sizes) -> str:
    """Evaluate few rows and many, each in a process of its own."""
    model = folder / "model"
    module("benchmarks.asking", "model", model)
    counts = (FEW, MANY) if sizes.rows is None else (sizes.rows, 2 * sizes.rows)
    found = {count: module("benchmarks.asking", "ask", model, folder / str(count), count) for count in counts}
    few, many = (found[count] for count in counts)
    rows: Table = [("test rows", "peak memory, MB", "logits of the truth's tokens, MB")]
    rows += [(f"{count:,}", f"{found[count]['peak_mb']:,}", f"{found[count]['logits_mb']:,}") for count in counts]
    return "\n\n".join(
        [
            f"`zero_shot` with a tiny BART of {VOCABULARY:,} words, batches of 32: the whole process, from file to "
            "the report. What the logits of all rows would take in float32 stands beside it.",
            table(rows),
            f"Difference: **{many['peak_mb'] - few['peak_mb']:,} MB** for {counts[1] - counts[0]:,} rows more.",
        ]
    )


def make(folder: Path) -> dict[str, Any]:
    """Save a BART with random weights and a tokenizer that knows as many words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    torch.manual_seed(0)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = {word: number for number, word in enumerate([*special, *map(word_of, range(VOCABULARY - len(special)))])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=64,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    layers = {f"{part}_{name}": value for part in ("encoder", "decoder")
              for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 64))}  # fmt: skip
    settings = BartConfig(
        vocab_size=VOCABULARY, d_model=32, max_position_embeddings=64, bos_token_id=0, pad_token_id=1, eos_token_id=2,
        decoder_start_token_id=2, forced_eos_token_id=None, **layers,
    )  # fmt: skip
    BartForConditionalGeneration(settings).save_pretrained(folder)
    return {}


def word_of(number: int) -> str:
    """Return a word of letters for a number."""
    return "w" + "".join(chr(97 + int(digit)) for digit in str(number))


def ask(model: Path, folder: Path, count: int) -> dict[str, int]:
    """Evaluate `count` rows; return the process's peak memory and what the logits of all rows would take, in MB."""
    from hftransfer import accounts, catalog, training
    from hftransfer.fitting.interruption import Interruption
    from hftransfer.runs import Run

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, rows in (("train", TRAIN), ("validation", TRAIN), ("test", count)):
        drawn = random.integers(0, VOCABULARY - 4, (rows, 2, WORDS))
        texts = [[" ".join(map(word_of, part)) for part in row] for row in drawn]
        lines = [json.dumps({"text": text, "translation": target}) for text, target in texts]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    tree = {
        "task": "translation", "model": str(model), "method": {"name": "zero_shot"},
        "data": {"source": str(folder), "likely_copies": False},
        "train": {"use_cpu": True, "per_device_eval_batch_size": 32},
        "evaluation": {"resamples": 200, "max_new_tokens": WORDS}, "speed": {"tune": False},
    }  # fmt: skip
    config = catalog.build_config(tree)
    with Interruption() as interruption:
        training.run(config, Run.create(config, folder / "run"), interruption)
    return {"peak_mb": accounts.peak_memory(), "logits_mb": count * (WORDS + 1) * VOCABULARY * 4 // 2**20}


if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(make(place) if what == "model" else ask(place, Path(sys.argv[3]), int(sys.argv[4]))))
