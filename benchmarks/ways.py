"""Ways to compute a step and a pass that the engine does not take, beside the one that it takes.

For a line of JSON: python -m benchmarks.ways ROUNDS
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import MODEL, Sizes, module
from benchmarks.page import Table, table
from hftransfer import samples

BATCH, TOKENS, STEPS = 32, 24, 6  # rows and tokens of a batch, as the quickstart's tweets have; batches at a time
TRAINED = ("float32", "autocast", "bf16 weights, float32 masters", "autocast, torch.compile")
PASSED = ("float32", "autocast", "bf16 weights", "int8 weights and inputs")


def measure(folder: Path, sizes: Sizes) -> str:
    """Return milliseconds of a step and of a pass each way, in turn, and how far the states of a pass are off."""
    found = module("benchmarks.ways", max(3, sizes.rounds))
    steps = {name: 1000 * statistics.median(times) for name, times in found["steps"].items()}
    passes = {name: 1000 * statistics.median(times) for name, times in found["passes"].items()}
    trained: Table = [("training", "ms a step", "autocast's, times this")]
    trained += [(name, f"{ms:.0f}", f"{steps['autocast'] / ms:.2f}") for name, ms in steps.items()]
    passed: Table = [("answering", "ms a pass", "autocast's, times this", "states are off by")]
    passed += [
        (name, f"{ms:.0f}", f"{passes['autocast'] / ms:.2f}", f"{found['off'][name]:.1%}")
        for name, ms in passes.items()
    ]
    gain = (steps["autocast"] - steps[TRAINED[-1]]) / 1000
    pays = f"pays after {found['compiling'] / gain:,.0f} steps" if gain > 0 else "never pays"
    return "\n\n".join(
        [
            f"MiniLM, {BATCH} rows of {TOKENS} tokens, eager attention, which timing takes for them here, no dropout, "
            f"a hand-written loop, {STEPS} batches at a time in turn. The engine takes autocast. Masters: AdamW keeps "
            "the weights in float32 and writes them back in bf16 after each step. Off: the mean distance of a token's "
            "last state from float32's, by its length.",
            table(trained),
            f"torch.compile took {found['compiling']:.0f} s for this one shape, without a cache, and {pays}.",
            table(passed),
        ]
    )


def ways(rounds: int) -> dict[str, Any]:
    """Return seconds of each step and pass, by way, in each round; of compiling; and what states are off by."""
    import torch
    import transformers

    torch.manual_seed(0)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    plain = load(samples.resolve(MODEL), num_labels=3, attn_implementation="eager", **none)
    ids = torch.randint(1000, len(plain.get_input_embeddings().weight), (STEPS, BATCH, TOKENS))
    batches = [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in ids]
    labels = torch.arange(BATCH) % 3

    def stepping(half: bool, masters: bool, compiled: bool) -> Callable[[], None]:
        model = copy.deepcopy(plain).train()
        if masters:
            model.bfloat16()
        kept = [weight.detach().float().clone() for weight in model.parameters()] if masters else []
        optimizer = torch.optim.AdamW(kept or model.parameters(), lr=5e-5, weight_decay=0.0, fused=True)
        ask = torch.compile(model) if compiled else model

        def run() -> None:
            for batch in batches:
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                    logits = ask(**batch).logits
                torch.nn.functional.cross_entropy(logits.float(), labels).backward()
                for master, weight in zip(kept, model.parameters(), strict=False):
                    master.grad, weight.grad = None if weight.grad is None else weight.grad.float(), None
                optimizer.step()
                optimizer.zero_grad()
                with torch.no_grad():
                    for master, weight in zip(kept, model.parameters(), strict=False):
                        weight.copy_(master)

        return run

    ways = [(False, False, False), (True, False, False), (False, True, False), (True, False, True)]
    sides = {name: stepping(*way) for name, way in zip(TRAINED, ways, strict=True)}
    seconds, compiling = {name: [] for name in sides}, 0.0
    for number in range(rounds + 1):  # the first warms up, and compiles
        for name, run in sides.items():
            took = timed(run)
            if number:
                seconds[name].append(took / STEPS)
            elif name == TRAINED[-1]:
                compiling = took
    body = plain.base_model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says where this quantizer is going to live
        int8 = torch.ao.quantization.quantize_dynamic(copy.deepcopy(body), {torch.nn.Linear}, dtype=torch.qint8)
    models = {PASSED[0]: body, PASSED[1]: body, PASSED[2]: copy.deepcopy(body).bfloat16(), PASSED[3]: int8}
    passes: dict[str, list[float]] = {name: [] for name in models}
    exact, off = None, {}
    for number in range(rounds + 1):
        for name, model in models.items():
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "autocast"):
                began = time.perf_counter()
                states = [model(**batch).last_hidden_state for batch in batches]
                took = time.perf_counter() - began
            if number:
                passes[name].append(took / STEPS)
                continue
            whole = torch.cat(states).float()
            exact = whole if exact is None else exact
            off[name] = float(((whole - exact).norm(dim=-1) / exact.norm(dim=-1)).mean())
    return {"steps": seconds, "passes": passes, "off": off, "compiling": compiling}


def timed(run: Callable[[], None]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(ways(int(sys.argv[1]))))
