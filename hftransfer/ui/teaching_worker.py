"""A classifier out of a few examples, within a worker: features of a frozen model, and a linear head on them."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer import catalog, samples
from hftransfer.config import build
from hftransfer.tasks.base import Preparation

KEPT = 2000  # features of examples in memory
STRENGTH = 100.0  # of the head, over the number of features, which are standardised: inverse of the penalty
DIGITS = 6  # of a feature
_KNOWN: OrderedDict[str, np.ndarray] = OrderedDict()


def taught(
    task: str, model: str, rows: Sequence[Mapping[str, str]], asked: str | None = None, folder: str | None = None
) -> dict[str, Any]:
    """Return what a head on `model`'s features makes of examples: {counts, right, answer: [(label, share)]}.

    A row has its `label`, and a text, or the name of a file in `folder`, as `value`; `asked` is one more value.
    `right` is the share of examples that are answered right by a head that did not see them, None below two of each.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = [row["label"] for row in rows]
    names = sorted(set(labels))
    counts = {name: labels.count(name) for name in names}
    if len(names) < 2:
        return {"counts": counts, "right": None, "answer": []}
    place = Path(folder) if folder else None
    features = np.stack([_feature(task, model, row["value"], place) for row in rows])
    solver = LogisticRegression(C=STRENGTH / features.shape[1], class_weight="balanced", max_iter=1000)
    # standardised: what examples have in common is most of what a model makes of each, and tells none from another
    head = make_pipeline(StandardScaler(), solver).fit(features, labels)
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
    """Return the feature (d,) of a text, or of a file beside the others, of length 1; computed once."""
    data = (folder / value).read_bytes() if folder is not None else value.encode()
    key = hashlib.sha256(f"{task} {model} ".encode() + data).hexdigest()
    if key not in _KNOWN:
        found = _encoder(task, model)(value if folder is None else str(folder / value))
        # in so many digits that what is the same in all is told from what rounding makes of it
        _KNOWN[key] = np.round(found / max(float(np.linalg.norm(found)), 1e-12), DIGITS)
        while len(_KNOWN) > KEPT:
            _KNOWN.popitem(last=False)
    return _KNOWN[key]


@functools.lru_cache(maxsize=1)
def _encoder(task: str, model: str) -> Callable[[str], np.ndarray]:
    """Return what turns one value into a vector: the mean over tokens, places of a picture, or the time it lasts."""
    import torch
    import transformers

    from hftransfer.modeling import loading, short_clips
    from hftransfer.modeling.batches import collator
    from hftransfer.modeling.prepared import of_values
    from hftransfer.ui.worker_limits import bound_memory

    loading.silence_libraries()
    bound_memory()
    known = catalog.task(task)
    config = build({"task": task, "model": model, "data": {"source": "-"}})
    processor = loading.load_processor(config, known)
    source = samples.resolve(model)
    network = transformers.AutoModel.from_pretrained(source, trust_remote_code=False, use_safetensors=True).eval()
    longest = None if known.lazy else loading.longest_input(config, processor, network.config)
    network = getattr(network, "vision_model", network) if known.lazy else network
    network = network.get_encoder() if network.config.is_encoder_decoder else network
    preparation = Preparation(known.settle(config.data, network.config), known.answers[0], 0, longest)
    collate = collator(known, processor, preparation, training=False)

    def encode(value: str) -> np.ndarray:
        row = {name: [part] for name, part in known.row(value).items()}
        found = of_values(known, row, processor, preparation)
        batch = {name: part for name, part in collate(found.items([0])).items() if not name.startswith("_")}
        with torch.inference_mode():
            places = None if found.lengths is None or found.window is None else int(found.lengths[0])
            hidden = short_clips.states(network, batch, places)
        return np.asarray(_mean(hidden, batch.get("attention_mask"))[0].float().numpy(), np.float64)

    return encode


def _mean(hidden: Any, mask: Any) -> Any:
    """Return the mean (1, d) of states (1, places, d) or (1, d, height, width), of texts over their own tokens."""
    if hidden.ndim == 4:
        return hidden.mean((2, 3))
    if mask is None or mask.shape[1] != hidden.shape[1]:  # of samples, of which many make one place
        return hidden.mean(1)
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
