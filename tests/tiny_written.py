"""Tiny sequence-to-sequence models of every family, with tokenizers of their own, and pairs of texts to learn."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

WORDS = {  # of a small language, and of another
    "the": "le", "cat": "chat", "dog": "chien", "house": "toit", "sees": "voit", "big": "grand", "old": "vieux",
    "and": "et", "small": "petit", "finds": "prend",
}  # fmt: skip
PIECES = [f"\u2581{word}" for word in (*WORDS, *WORDS.values())]
LETTERS = ["\u2581", *"abcdefghijklmnopqrstuvwxyz:"]
CORE = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
SCORED = [*((piece, -2.0) for piece in PIECES), *((letter, -6.0) for letter in LETTERS)]
SMALL: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
}  # fmt: skip
ARCHITECTURES = ("t5", "mt5", "bart", "mbart", "mbart50", "marian", "pegasus", "nllb", "m2m_100")
LANGUAGES = {"mbart": ("en_XX", "fr_XX"), "mbart50": ("en_XX", "fr_XX"), "nllb": ("eng_Latn", "fra_Latn"),
             "m2m_100": ("en", "fr")}  # fmt: skip


def written_model(folder: Path, architecture: str = "t5") -> Path:
    """Save a model with random weights and its tokenizer."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = TOKENIZERS[architecture](folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    largest = max(len(tokenizer), 1 + max(numbers(tokenizer)))
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "vocab_size": largest}
    model = transformers.AutoModelForSeq2SeqLM.from_config(CONFIGS[architecture](ids))
    model.save_pretrained(folder)
    return folder


def numbers(tokenizer: Any) -> list[int]:
    """Return every number of a token, those of languages too."""
    from hftransfer import processors

    found = [*tokenizer.get_vocab().values()]
    return [*found, *processors.languages(tokenizer).values()] if processors.speaks_languages(tokenizer) else found


def _t5(kind: str) -> Callable[[dict[str, Any]], Any]:
    def make(ids: dict[str, Any]) -> Any:
        return getattr(transformers, f"{kind}Config")(
            d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=ids["pad_token_id"], **ids
        )

    return make


def _bart(kind: str, start: str = "eos_token_id", **options: Any) -> Callable[[dict[str, Any]], Any]:
    def make(ids: dict[str, Any]) -> Any:
        fields = {**SMALL, **ids, "decoder_start_token_id": ids[start], **options}
        return getattr(transformers, f"{kind}Config")(**fields)

    return make


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "t5": _t5("T5"), "mt5": _t5("MT5"), "bart": _bart("Bart", forced_eos_token_id=2),
    "mbart": _bart("MBart"), "mbart50": _bart("MBart"), "marian": _bart("Marian", "pad_token_id"),
    "pegasus": _bart("Pegasus", "pad_token_id"), "nllb": _bart("M2M100"), "m2m_100": _bart("M2M100"),
}  # fmt: skip


def _unigram(kind: str, extra: dict[str, Any], head: list[tuple[str, float]]) -> Callable[[Path], Any]:
    return lambda folder: getattr(transformers, kind)(vocab=[*head, *SCORED], **extra)


def _spm(folder: Path) -> Path:
    import sentencepiece

    lines = [f"{one} {other}" for one, other in WORDS.items()] * 20 + [" ".join(LETTERS[1:])] * 5
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=80, hard_vocab_limit=False, minloglevel=2
    )
    path = folder / "source.spm"
    path.write_bytes(out.getvalue())
    return path


def _vocabulary(folder: Path, first: list[str], last: list[str] = ()) -> Path:  # type: ignore[assignment]
    import sentencepiece

    core = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pieces = [core.id_to_piece(i) for i in range(core.get_piece_size())]
    names = [*first, *(p for p in pieces if p not in ("<s>", "</s>", "<unk>")), *last]
    path = folder / "vocab.json"
    path.write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    return path


def _marian(folder: Path) -> Any:
    spm = str(_spm(folder))
    vocabulary = str(_vocabulary(folder, ["</s>", "<unk>"], ["<pad>"]))
    return transformers.MarianTokenizer(spm, spm, vocabulary, source_lang="en", target_lang="fr")


def _m2m(folder: Path) -> Any:
    spm = str(_spm(folder))
    vocabulary = str(_vocabulary(folder, ["<s>", "<pad>", "</s>", "<unk>"]))
    return transformers.M2M100Tokenizer(vocabulary, spm, src_lang="en", tgt_lang="fr")


def _nllb(folder: Path) -> Any:
    vocabulary = {piece: i for i, (piece, _) in enumerate([*CORE, *SCORED])}
    return transformers.NllbTokenizer(vocab=vocabulary, merges=[], src_lang="eng_Latn", tgt_lang="fra_Latn")


def _bart_tokens(folder: Path) -> Any:
    letters = ["\u0120", *"abcdefghijklmnopqrstuvwxyz:"]
    vocabulary = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    return transformers.BartTokenizer(vocab=vocabulary, merges=[])


PLAIN = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
TOKENIZERS: dict[str, Callable[[Path], Any]] = {
    "t5": _unigram("T5Tokenizer", {"extra_ids": 2}, PLAIN),
    "mt5": _unigram("T5Tokenizer", {"extra_ids": 2}, PLAIN),
    "bart": _bart_tokens,
    "mbart": _unigram("MBartTokenizer", {"src_lang": "en_XX", "tgt_lang": "fr_XX"}, CORE),
    "mbart50": _unigram("MBart50Tokenizer", {"src_lang": "en_XX", "tgt_lang": "fr_XX"}, CORE),
    "marian": _marian,
    "pegasus": _unigram("PegasusTokenizer", {"offset": 0}, PLAIN),
    "nllb": _nllb,
    "m2m_100": _m2m,
}


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return texts with their translation, word by word."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        text = [str(word) for word in rng.choice(list(WORDS), rng.integers(2, 5))]
        found.append((" ".join(text), " ".join(WORDS[word] for word in text)))
    return found


def pairs_jsonl(path: Path, count: int = 120, seed: int = 0, nested: bool = False) -> Path:
    """Write pairs with the columns text and translation, or as the Hub has them: translation.en and translation.fr."""
    with open(path, "w", encoding="utf-8") as file:
        for text, translation in pairs(count, seed):
            row = {"translation": {"en": text, "fr": translation}} if nested else {
                "text": text, "translation": translation
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return path
