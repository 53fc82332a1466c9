"""Numbers of lenskit's EASE and item-kNN, which ours are held against: python -m tests.reference_recommenders

Writes tests/data/reference/recommenders.json, which names lenskit's version. Run it where lenskit is installed beside
numpy (pip install lenskit): the tests read the file and need no lenskit.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "data" / "reference" / "recommenders.json"
PEOPLE, ITEMS, DRAWN = 400, 40, 4000
PENALTY, NEIGHBOURS = 25.0, 10
HISTORIES = ((0, 3, 17), (5,), (39, 2, 8, 11, 30, 21))


def interactions() -> np.ndarray:
    """Return who had what, (n, 2) of people and items: some items are popular, and people like neighbours of one."""
    rng = np.random.default_rng(7)
    people = rng.integers(0, PEOPLE, DRAWN)
    popular = (ITEMS * rng.random(DRAWN) ** 1.7).astype(np.int64)
    items = np.where(rng.random(DRAWN) < 0.5, (people * 13 + rng.integers(0, 9, DRAWN)) % ITEMS, popular)
    return np.unique(np.stack([people, items], axis=1), axis=0)


def scores(scorer: Any, dataset: Any, history: tuple[int, ...]) -> list[float]:
    """Return what a trained scorer gives each item after a history; 0 for what it gives nothing."""
    from lenskit.data import ItemList, RecQuery

    scorer.train(dataset)
    found = scorer(RecQuery(history_items=ItemList(item_ids=list(history))), ItemList(item_ids=list(range(ITEMS))))
    return [float(value) for value in np.nan_to_num(found.scores())]


def main() -> None:
    """Ask lenskit and write what it says."""
    from lenskit.data import DatasetBuilder
    from lenskit.knn import EASEScorer, ItemKNNScorer

    pairs = interactions()
    builder = DatasetBuilder()
    builder.add_entities("item", np.arange(ITEMS))
    builder.add_entities("user", np.arange(PEOPLE))
    table = {"user_id": pairs[:, 0], "item_id": pairs[:, 1]}
    import pandas

    builder.add_interactions("rating", pandas.DataFrame(table), entities=["user", "item"], default=True)
    dataset = builder.build()
    ease = EASEScorer(regularization=PENALTY)
    knn = ItemKNNScorer(feedback="implicit", save_nbrs=NEIGHBOURS, max_nbrs=ITEMS, min_sim=1e-12)
    found = {
        "made_by": f"lenskit {version('lenskit')}: EASEScorer and ItemKNNScorer, in float32",
        "penalty": PENALTY, "neighbours": NEIGHBOURS, "histories": HISTORIES,
        "ease": [scores(ease, dataset, one) for one in HISTORIES],
        "item_knn": [scores(knn, dataset, one) for one in HISTORIES],
    }  # fmt: skip
    FILE.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
