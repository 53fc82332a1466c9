"""Steps that train the rows of an embedding that the data read, against steps that train the whole one.

For a line of JSON: python -m benchmarks.embeddings ROUNDS ROWS
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import MODEL, Sizes, export, module, read_rows
from benchmarks.page import Table, table
from hftransfer import samples

LARGE = 250_002  # entries of XLM-R's vocabulary, which most multilingual encoders have
BATCH, STEPS, WARM = 32, 6, 2


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the section: milliseconds of a step, and numbers that the optimizer keeps, both ways, in turn."""
    place = export(folder / "rows", sizes.cap)
    found = module("benchmarks.embeddings", max(3, sizes.rounds), place)
    rows: Table = [("vocabulary", "rows that train reads", "whole, ms a step", "those rows alone", "times as fast")]
    for one in found:
        whole, alone = (1000 * statistics.median(one[name]) for name in ("whole", "alone"))
        rows.append(
            (f"{one['entries']:,}", f"{one['read']:,}", f"{whole:.0f}", f"{alone:.0f}", f"**{whole / alone:.2f}**")
        )
    moments = "; ".join(f"{one['kept'][0] / 1e6:.0f} M against {one['kept'][1] / 1e6:.0f} M" for one in found)
    return "\n\n".join(
        [
            f"MiniLM on the VADER tweets, {BATCH} rows an update, float32, {STEPS} steps at a time in turn, medians "
            f"of {len(found[0]['whole'])} rounds. The large vocabulary is MiniLM's with rows added that no tweet has, "
            "as many as XLM-R has entries.",
            table(rows),
            f"Numbers that AdamW keeps, and that a checkpoint holds beside the weights: {moments}. The largest "
            "difference between losses of the two ways is "
            f"{max(one['apart'] for one in found):.1g}.",
        ]
    )


def steps(rounds: int, place: Path) -> list[dict[str, Any]]:
    """Return seconds of a step both ways, for either vocabulary."""
    import torch
    import transformers

    from hftransfer.fitting import dropout, vocabulary

    texts, _ = read_rows(place / "train.jsonl")
    tokenizer = transformers.AutoTokenizer.from_pretrained(samples.resolve(MODEL))
    count = STEPS * (rounds + 1) * BATCH
    texts = (texts * (1 + count // len(texts)))[:count]
    batches = [tokenizer(texts[i : i + BATCH], padding=True, return_tensors="pt") for i in range(0, count, BATCH)]
    read = torch.cat([batch["input_ids"].flatten() for batch in batches]).unique()
    labels, found = torch.arange(BATCH) % 3, []
    for entries in (None, LARGE):
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(samples.resolve(MODEL), num_labels=3)
        if entries:
            model.resize_token_embeddings(entries, mean_resizing=False)
        size = len(model.get_input_embeddings().weight)
        sides = {"whole": (model, None), "alone": (copy.deepcopy(model), read)}
        told: dict[str, Any] = {"entries": size, "read": len(read), "kept": [], "whole": [], "alone": []}
        losses: dict[str, list[float]] = {"whole": [], "alone": []}
        with vocabulary.compacted(*sides["alone"]):
            kinds = {
                name: torch.optim.AdamW(one.parameters(), lr=5e-5, weight_decay=0.0, fused=True)
                for name, (one, _) in sides.items()
            }
            for number in range(rounds + 1):  # the first warms up
                for name, (one, _) in sides.items():
                    one.train()
                    torch.manual_seed(number)
                    with dropout.stretched(one):
                        began = time.perf_counter()
                        for batch in batches[number * STEPS : (number + 1) * STEPS]:
                            loss = one(**batch, labels=labels).loss
                            loss.backward()
                            torch.nn.utils.clip_grad_norm_(one.parameters(), 1.0)
                            kinds[name].step()
                            kinds[name].zero_grad()
                            losses[name].append(float(loss))
                        if number:
                            told[name].append((time.perf_counter() - began) / STEPS)
            for kind in kinds.values():
                told["kept"].append(sum(value.numel() for state in kind.state.values() for value in state.values()))
        told["apart"] = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
        found.append(told)
    return found


if __name__ == "__main__":
    print(json.dumps(steps(int(sys.argv[1]), Path(sys.argv[2]))))
