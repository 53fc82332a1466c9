"""A classifier out of a few examples, within a worker: features of a frozen model, and a linear head on them."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer import catalog, samples
from hftransfer.config import build
from hftransfer.errors import UserError

KEPT = 2000  # features of examples in memory
STRENGTH = 10.0  # of the head on features of length 1: inverse of the penalty
_KNOWN: OrderedDict[str, np.ndarray] = OrderedDict()


def taught(
    task: str, model: str, rows: Sequence[Mapping[str, str]], asked: str | None = None, folder: str | None = None
) -> dict[str, Any]:
    """Return what a head on `model`'s features makes of examples: {counts, right, answer: [(label, share)]}.

    A row has its `label`, and a text, or the name of a picture in `folder`, as `value`; `asked` is one more value.
    `right` is the share of examples that are answered right by a head that did not see them, None below two of each.
    """
    from sklearn.linear_model import LogisticRegression

    labels = [row["label"] for row in rows]
    names = sorted(set(labels))
    counts = {name: labels.count(name) for name in names}
    if len(names) < 2:
        return {"counts": counts, "right": None, "answer": []}
    place = Path(folder) if folder else None
    features = np.stack([_feature(task, model, row["value"], place) for row in rows])
    head = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000).fit(features, labels)
    answer: list[tuple[str, float]] = []
    if asked:
        shares = head.predict_proba(_feature(task, model, asked, place)[None])[0]
        found = zip(head.classes_.tolist(), shares.tolist(), strict=True)
        answer = sorted(((name, round(share, 4)) for name, share in found), key=lambda pair: -pair[1])
    return {"counts": counts, "right": _left_out(head, features, labels, counts), "answer": answer}


def _left_out(head: Any, features: np.ndarray, labels: Sequence[str], counts: Mapping[str, int]) -> float | None:
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = min(5, *counts.values())
    if folds < 2:
        return None
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(np.mean(cross_val_predict(clone(head), features, labels, cv=split) == np.array(labels)))


def _feature(task: str, model: str, value: str, folder: Path | None) -> np.ndarray:
    """Return the feature (d,) of a text, or of a picture beside the others, of length 1; computed once."""
    data = (folder / value).read_bytes() if folder is not None else value.encode()
    key = hashlib.sha256(f"{task} {model} ".encode() + data).hexdigest()
    if key not in _KNOWN:
        found = _encoder(task, model)(value, folder)
        _KNOWN[key] = found / max(float(np.linalg.norm(found)), 1e-12)
        while len(_KNOWN) > KEPT:
            _KNOWN.popitem(last=False)
    return _KNOWN[key]


@functools.lru_cache(maxsize=1)
def _encoder(task: str, model: str) -> Any:
    """Return what turns one value into a vector: the mean over tokens, or over places of a picture."""
    import torch
    import transformers

    from hftransfer.modeling import loading
    from hftransfer.processors import tokenizer_of
    from hftransfer.ui.worker_limits import bound_memory

    loading.silence_libraries()
    bound_memory()
    config = build({"task": task, "model": model, "data": {"source": "-"}})
    processor = loading.load_processor(config, catalog.task(task))
    source = samples.resolve(model)
    network = transformers.AutoModel.from_pretrained(source, trust_remote_code=False, use_safetensors=True).eval()
    network = getattr(network, "encoder", network) if network.config.is_encoder_decoder else network
    tokenizer = tokenizer_of(processor)

    def encode(value: str, folder: Path | None) -> np.ndarray:
        with torch.inference_mode():
            if folder is None:
                if tokenizer is None:
                    raise UserError("a model that reads texts is needed", f"{model} reads none", "Choose another.")
                batch = tokenizer([value], truncation=True, max_length=256, return_tensors="pt")
                hidden = network(**batch).last_hidden_state
                mask = batch["attention_mask"][..., None]
                found = (hidden * mask).sum(1) / mask.sum(1)
            else:
                found = _of_picture(network, processor, folder / value)
        return np.asarray(found[0].float().numpy(), np.float64)

    return encode


def _of_picture(network: Any, processor: Any, path: Path) -> Any:
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    batch = processor(images=[picture], return_tensors="pt")
    vision = getattr(network, "vision_model", network)
    hidden = vision(pixel_values=batch["pixel_values"]).last_hidden_state
    return hidden.mean((2, 3)) if hidden.ndim == 4 else hidden.mean(1)
