"""Tiny models that hear, of every family, and recordings to learn: tones that stand for words, in any format."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from transformers.models.whisper.tokenization_whisper import LANGUAGES

RATE = 16_000
WORDS = {"low": 300.0, "middle": 900.0, "high": 2400.0}  # the pitch of each word
SECONDS = 0.2  # of a word
CHUNK = 1  # second that the tiny Whisper is shown
SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "conv_dim": [16, 16],
    "conv_stride": [20, 16], "conv_kernel": [40, 20], "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16, "vocab_size": 20, "mask_time_prob": 0.0, "layerdrop": 0.0,
}  # fmt: skip
ARCHITECTURES = ("whisper", "wav2vec2", "wav2vec2-group", "hubert", "wav2vec2-bert", "ast")


def whisper_config(vocabulary: int = 60, **special: int) -> Any:
    return transformers.WhisperConfig(
        vocab_size=vocabulary, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=20,
        max_source_positions=50 * CHUNK, max_target_positions=24, classifier_proj_size=16, suppress_tokens=None,
        begin_suppress_tokens=None, **special,
    )  # fmt: skip


CONFIGS: dict[str, Callable[[], Any]] = {
    "whisper": lambda: whisper_config(pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1),
    "wav2vec2": lambda: transformers.Wav2Vec2Config(**SMALL, feat_extract_norm="layer", do_stable_layer_norm=True),
    "wav2vec2-group": lambda: transformers.Wav2Vec2Config(**SMALL, feat_extract_norm="group"),
    "hubert": lambda: transformers.HubertConfig(**SMALL, feat_extract_norm="layer"),
    "wav2vec2-bert": lambda: transformers.Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=20,
        feature_projection_input_dim=40, classifier_proj_size=16, position_embeddings_type="relative_key",
        mask_time_prob=0.0, layerdrop=0.0, conv_depthwise_kernel_size=3,
    ),
    "ast": lambda: transformers.ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_length=100,
        num_mel_bins=16, frequency_stride=8, time_stride=8, patch_size=8,
    ),
}  # fmt: skip


def ear(architecture: str) -> Any:
    """Return the feature extractor of an architecture."""
    if architecture == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=CHUNK)
    if architecture == "ast":
        return transformers.ASTFeatureExtractor(max_length=100, num_mel_bins=16, mean=-4.0, std=3.0)
    if architecture == "wav2vec2-bert":
        return transformers.SeamlessM4TFeatureExtractor(feature_size=20, num_mel_bins=20)
    return transformers.Wav2Vec2FeatureExtractor(
        feature_size=1, do_normalize=True, return_attention_mask=architecture != "wav2vec2-group"
    )


def heard_model(folder: Path, architecture: str = "wav2vec2") -> Path:
    """Save a bare backbone with random weights and its feature extractor."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(CONFIGS[architecture]()).save_pretrained(folder)
    ear(architecture).save_pretrained(folder)
    return folder


def speech(words: Sequence[str], seed: int = 0, rate: int = RATE, seconds: float = SECONDS) -> np.ndarray:
    """Return words as tones of their pitch, with a little noise and a short pause behind each."""
    rng = np.random.default_rng(seed)
    parts = []
    for word in words:
        times = np.arange(int(seconds * rate * rng.uniform(0.9, 1.1))) / rate
        tone = np.sin(2 * np.pi * WORDS[word] * rng.uniform(0.97, 1.03) * times + rng.uniform(0, 6))
        parts += [0.3 * np.hanning(len(times)) * tone, np.zeros(rate // 50)]
    sound = np.concatenate(parts)
    return np.asarray(sound + 0.003 * rng.standard_normal(len(sound)), np.float32)


def class_folder(folder: Path, count: int = 48, suffix: str = ".wav", seed: int = 0) -> Path:
    """Write recordings of one word each into a folder a word."""
    names = list(WORDS)
    for number in range(count):
        word = names[number % len(names)]
        (folder / word).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / word / f"{number:03}{suffix}", speech([word], seed + number), RATE)
    return folder


def spoken_folder(folder: Path, count: int = 60, seed: int = 0) -> Path:
    """Write recordings of one to three words with metadata.jsonl: file_name, text and speaker."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        said = [str(word) for word in rng.choice(list(WORDS), rng.integers(1, 4))]
        name = f"{number:03}.flac"
        soundfile.write(folder / name, speech(said, seed + number), RATE)
        lines.append(json.dumps({"file_name": name, "text": " ".join(said), "speaker": f"s{number % 6}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


TONGUES = [f"<|{code}|>" for code in LANGUAGES]  # in the order that a Whisper has them
ENGLISH = ["<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>"]
MARKS = [*ENGLISH[:2], *TONGUES, "<|translate|>", "<|transcribe|>", *ENGLISH[2:]]


def whisper_tokenizer(multilingual: bool = False) -> Any:
    """Return a Whisper's tokenizer that knows letters alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = ["\u0120", *"abcdefghijklmnopqrstuvwxyz'"]
    marks = MARKS if multilingual else ENGLISH  # behind the letters: what lies behind the marks is taken for times
    core = Tokenizer(models.BPE({name: i for i, name in enumerate([*letters, *marks])}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(marks)
    end = marks[0]
    return transformers.WhisperTokenizer(
        tokenizer_object=core,
        unk_token=end,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        model_max_length=24,
        additional_special_tokens=marks[1:],
    )


def whisper(folder: Path, multilingual: bool = False) -> Path:
    """Save a tiny recogniser with random weights, its processor and its settings of generation."""
    tokenizer = whisper_tokenizer(multilingual)
    number = tokenizer.convert_tokens_to_ids
    end, start = number("<|endoftext|>"), number("<|startoftranscript|>")
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(whisper_config(len(tokenizer), **special))
    known = {
        "lang_to_id": {mark: number(mark) for mark in TONGUES},
        "task_to_id": {task: number(f"<|{task}|>") for task in ("transcribe", "translate")},
    }
    model.generation_config = transformers.GenerationConfig(
        max_length=24, is_multilingual=multilingual, no_timestamps_token_id=number("<|notimestamps|>"),
        return_timestamps=False, **special, **(known if multilingual else {}),
    )  # fmt: skip
    model.save_pretrained(folder)
    transformers.WhisperProcessor(ear("whisper"), tokenizer).save_pretrained(folder)
    return folder
