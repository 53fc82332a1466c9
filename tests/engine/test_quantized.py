"""qlora: a base in 4 bits, trained through its adapters and merged into the whole one; where bitsandbytes is there."""

from __future__ import annotations

import pytest
import torch

from tests import tiny_causal

pytest.importorskip("bitsandbytes")
WIDE = {"hidden_size": 64, "intermediate_size": 128}  # bitsandbytes scales 64 weights at a time


def test_it_learns_through_layers_of_4_bits_and_leaves_a_plain_model(train, tmp_path):
    model = tiny_causal.causal_model(tmp_path / "model", "llama-untied", **WIDE)
    rows = tiny_causal.written(tmp_path / "rows.jsonl", tiny_causal.rows("completion", 80))
    tree = {"task": "text-generation", "model": str(model), "data": {"source": str(rows)}}
    own = (
        "method={name: qlora, r: 4}",
        "train.learning_rate=0.01",
        "evaluation.max_new_tokens=4",
    )
    run, result = train(tree, *own)
    losses = [event["loss"] for event in run.events()[0] if event["type"] == "log"]
    assert losses[-1] < losses[0] - 0.1
    assert result["cost"]["trainable_parameters"] < 0.3 * result["cost"]["total_parameters"]
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(run.artifact)
    assert {p.dtype for p in plain.parameters()} == {torch.float32}


def test_gradients_pass_every_layer_also_once_the_model_has_answered(tmp_path):
    from hftransfer import catalog, data
    from hftransfer.modeling import loading

    model = tiny_causal.causal_model(tmp_path / "model", "llama-untied", **WIDE)
    rows = tiny_causal.written(tmp_path / "rows.jsonl", tiny_causal.rows("completion", 40))
    tree = {
        "task": "text-generation", "model": str(model), "data": {"source": str(rows)},
        "method": {"name": "qlora", "r": 4, "init_lora_weights": False},
    }  # fmt: skip
    built = catalog.build_config(tree)
    task, method = catalog.task(built.task), catalog.method("qlora")
    answer = data.load(built.data, task, 0).answer
    loaded = method.load(built, task, answer, loading.load_processor(built, task))
    adapted = method.apply(loaded, built.method)
    ids = torch.arange(3, 43, device=adapted.device).view(2, 20)
    grown = []
    for _ in range(2):
        adapted.train()
        adapted.zero_grad()
        adapted(ids).logits.square().mean().backward()
        grown.append(torch.cat([p.grad.flatten() for p in adapted.parameters() if p.grad is not None]))
        adapted.eval()
        with torch.no_grad():
            adapted(ids)
    assert grown[0].abs().min() >= 0 and grown[0].norm() > 0
    torch.testing.assert_close(grown[0], grown[1], rtol=1e-4, atol=1e-6)
