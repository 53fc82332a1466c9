"""A Whisper as ONNX, in two parts as transformers.js runs them: an encoder, and a decoder that keeps what it has read.

The decoder takes the tokens that are new, the encoder's states, and the keys and values of the tokens before
(`past_key_values.N.decoder.key`, none at first); it gives the logits, and those of all tokens (`present.N...`). Keys
and values of the encoder's states are computed anew for every token: one file serves the first and the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

ENCODER, DECODER = "encoder_model", "decoder_model_merged"  # names by which transformers.js finds them
SHOWN = "input_features"
Call = dict[str, torch.Tensor]


class Encoder(nn.Module):
    """The states that a Whisper makes of what it hears."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.model.encoder

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.encoder(input_features).last_hidden_state
        return states


class Decoder(nn.Module):
    """The next logits, and the keys and values of all tokens so far, as plain tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, self.head = model.model.decoder, model.proj_out

    def forward(self, input_ids: torch.Tensor, states: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        kept = DynamicCache()
        for layer in range(len(past) // 2):
            kept.update(past[2 * layer], past[2 * layer + 1], layer)
        before, new = past[0].shape[2], input_ids.shape[1]
        places = torch.arange(new, device=input_ids.device) + before
        seen = torch.arange(before + new, device=input_ids.device)[None] <= places[:, None]
        found = self.decoder(
            input_ids=input_ids, encoder_hidden_states=states, position_ids=places[None], use_cache=True,
            attention_mask=seen[None, None].expand(input_ids.shape[0], 1, -1, -1),
            past_key_values=EncoderDecoderCache(kept, DynamicCache()),
        )  # fmt: skip
        layers = found.past_key_values.self_attention_cache.layers
        present = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
        return (self.head(found.last_hidden_state), *present)


@contextlib.contextmanager
def heard(model: Any) -> Iterator[list[torch.Tensor]]:
    """Note what a model's encoder is shown, each time that it is asked."""
    calls: list[torch.Tensor] = []

    def listen(module: nn.Module, args: Any, given: Mapping[str, Any]) -> None:
        calls.append((args[0] if args else given[SHOWN]).detach().cpu().float())

    handle = model.model.encoder.register_forward_pre_hook(listen, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def names(model: Any, prefix: str) -> list[str]:
    """Return what keys and values are called, of all layers: `past_key_values` go in, `present` come out."""
    layers = range(model.config.decoder_layers)
    return [f"{prefix}.{layer}.decoder.{kind}" for layer in layers for kind in ("key", "value")]


def none_yet(model: Any, rows: int, length: int = 0) -> list[torch.Tensor]:
    """Return keys and values of no tokens, or of so many zeros."""
    heads = model.config.decoder_attention_heads
    shape = (rows, heads, length, model.config.d_model // heads)
    return [torch.zeros(shape) for _ in names(model, "")]


def write(model: Any, features: torch.Tensor, folder: Path) -> None:
    """Write both parts in float32 for any number of rows and tokens."""
    dynamic = torch.export.Dim.DYNAMIC
    two = features[:1].expand(2, -1, -1).contiguous().float()
    past = none_yet(model, 2, 3)
    with torch.no_grad():
        encoder, decoder = Encoder(model).eval(), Decoder(model).eval()
        save(encoder, (two,), [SHOWN], ["last_hidden_state"], ({0: dynamic},), folder / f"{ENCODER}.onnx")
        arguments = (torch.ones(2, 4, dtype=torch.long), encoder(two), *past)
        shapes = ({0: dynamic, 1: dynamic}, {0: dynamic}, tuple({0: dynamic, 2: dynamic} for _ in past))
        save(
            decoder, arguments, ["input_ids", "encoder_hidden_states", *names(model, "past_key_values")],
            ["logits", *names(model, "present")], shapes, folder / f"{DECODER}.onnx",
        )  # fmt: skip
    name_sizes(folder / f"{DECODER}.onnx")


def name_sizes(path: Path) -> None:
    """Call the sizes of keys and values as transformers.js knows them: it makes those of no tokens by these names."""
    model = onnx.load(path)
    graph = model.graph
    past = [one.type.tensor_type.shape.dim for one in graph.input if one.name.startswith("past_key_values")]
    called = {sizes[0].dim_param: "batch_size" for sizes in past}
    called |= {sizes[2].dim_param: "past_sequence_length" for sizes in past}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in called:
                size.dim_param = called[size.dim_param]
    onnx.save(model, path)


def save(
    part: nn.Module, arguments: tuple[torch.Tensor, ...], inputs: Sequence[str], outputs: Sequence[str], shapes: Any,
    path: Path,
) -> None:  # fmt: skip
    """Write one part."""
    program = torch.onnx.export(
        part, arguments, dynamo=True, external_data=False, input_names=list(inputs), output_names=list(outputs),
        dynamic_shapes=shapes, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(path, external_data=False)


def tokens(processor: Any, model: Any, texts: Sequence[str]) -> torch.Tensor:
    """Return what a model wrote as its decoder reads it: the start, then the texts, as long as they fit."""
    found = processor.tokenizer(list(texts), add_special_tokens=False, padding=True, return_tensors="pt").input_ids
    start = torch.full((len(texts), 1), model.config.decoder_start_token_id)
    return torch.cat([start, found.long()], dim=1)[:, : min(32, model.config.max_target_positions)]


class Session:
    """One part as onnxruntime runs it."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.outputs = [one.name for one in self.session.get_outputs()]

    def __call__(self, given: Mapping[str, torch.Tensor]) -> Call:
        found = self.session.run(self.outputs, {name: value.cpu().numpy() for name, value in given.items()})
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(self.outputs, found, strict=True)}


def difference(model: Any, features: torch.Tensor, tokens: torch.Tensor, folder: Path) -> float:
    """Return the largest difference to PyTorch's: of the states, and of the logits, all at once and token by token."""
    encoder, decoder = Session(folder / f"{ENCODER}.onnx"), Session(folder / f"{DECODER}.onnx")
    past = names(model, "past_key_values")
    with torch.no_grad():
        states = Encoder(model)(features)
        wanted = model.model.decoder(input_ids=tokens, encoder_hidden_states=states, use_cache=False).last_hidden_state
        wanted = model.proj_out(wanted)
    heard = encoder({SHOWN: features})["last_hidden_state"]
    apart = float((heard - states).abs().max())
    at_once = decoder(
        {
            "input_ids": tokens,
            "encoder_hidden_states": heard,
            **dict(zip(past, none_yet(model, len(tokens)), strict=True)),
        }
    )
    apart = max(apart, float((at_once["logits"] - wanted).abs().max()))
    kept = none_yet(model, len(tokens))
    for place in range(tokens.shape[1]):
        given = {"input_ids": tokens[:, place : place + 1], "encoder_hidden_states": heard}
        found = decoder({**given, **dict(zip(past, kept, strict=True))})
        kept = [found[name] for name in names(model, "present")]
        apart = max(apart, float((found["logits"][:, 0] - wanted[:, place]).abs().max()))
    return apart


@contextlib.contextmanager
def standing_in(model: Any, folder: Path, suffix: str = "") -> Iterator[None]:
    """Let a model's own way of writing ask both parts by onnxruntime in place of its weights."""
    encoder, decoder = Session(folder / f"{ENCODER}{suffix}.onnx"), Session(folder / f"{DECODER}{suffix}.onnx")
    past = names(model, "past_key_values")
    whole, hears = model.forward, model.model.encoder.forward

    def hear(input_features: torch.Tensor, *_: Any, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=encoder({SHOWN: input_features})["last_hidden_state"])

    def read(*_: Any, **given: Any) -> Any:
        if given.get("labels") is not None or given.get("decoder_input_ids") is None:
            return whole(**given)
        tokens, kept, states = given["decoder_input_ids"], given.get("past_key_values"), given.get("encoder_outputs")
        states = hear(given[SHOWN])[0] if states is None else states[0]
        before = none_yet(model, len(tokens))
        if kept is not None and kept.get_seq_length():
            before = [one for layer in kept.self_attention_cache.layers for one in (layer.keys, layer.values)]
        asked = {"input_ids": tokens, "encoder_hidden_states": states, **dict(zip(past, before, strict=True))}
        found = decoder(asked)
        if kept is not None:
            new = [found[name][:, :, -tokens.shape[1] :] for name in names(model, "present")]
            for layer in range(len(new) // 2):
                kept.self_attention_cache.update(new[2 * layer], new[2 * layer + 1], layer)
        return Seq2SeqLMOutput(logits=found["logits"], past_key_values=kept)

    model.forward, model.model.encoder.forward = read, hear
    try:
        yield
    finally:
        model.forward, model.model.encoder.forward = whole, hears
