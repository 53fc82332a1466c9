"""A catalogue: everything that a model may answer with, one text an entry, and what an answer must know of it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hftransfer.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.answers._histories import Histories
    from hftransfer.answers._learner import Rows, Trivial

FILE = "items.parquet"  # ids, titles and vectors, beside a model
TITLE = 120  # characters of a title that is the beginning of a text
_MADE: weakref.WeakValueDictionary[str, Catalogue] = weakref.WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The entries of a catalogue, by their places: `table` has `id`, `title` and `text` (what a model reads).

    Where entries have pictures, it has `image`, as `datasets` stores them. `histories` are what people had of it in
    the training rows, where there are people.
    """

    table: pa.Table
    digest: str  # of its content
    histories: Histories | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _MADE[self.digest] = self

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __reduce__(self) -> Any:
        # a name for what is computed with it is all that anybody pickles it for: the rows would take minutes to hash
        return _again, (self.digest,)

    def __deepcopy__(self, memo: Any) -> Catalogue:
        return self

    def require_choice(self) -> None:
        """Raise UserError where there is nothing to choose from."""
        if len(self) < 2:
            raise UserError(
                "a catalogue of two entries or more is needed", f"this one has {len(self)}",
                "There is nothing to choose from: name another.",
            )  # fmt: skip

    @cached_property
    def ids(self) -> list[str]:
        """The name of each entry."""
        return list(self.table["id"].to_pylist())

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each entry by its name."""
        return {name: place for place, name in enumerate(self.ids)}

    @cached_property
    def numbers(self) -> list[int]:
        """The number of each text, which equal ones share."""
        from hftransfer.answers._nearness import number_of

        return [number_of(text) for text in self.table["text"].to_pylist()]

    @cached_property
    def titled(self) -> dict[str, int]:
        """The first place of each title, but for case and blanks."""
        titles = self.table["title"].to_pylist()
        return {_plain(title): place for place, title in reversed(list(enumerate(titles))) if title}

    def place(self, name: str) -> int:
        """Return the place of an entry by its id, else by its title; UserError for what is not in the catalogue."""
        known = self.places.get(name, self.titled.get(_plain(name)))
        if known is None:
            near = nearest(_plain(name), list(self.titled)) or ", ".join(self.titles(self.ids[:3]))
            raise UserError(
                "an entry of the catalogue is needed, by its id or its title",
                f"{name!r} is none of its {len(self):,}", f"Close to it, or the first: {near}.",
            )  # fmt: skip
        return known

    def listed(self, names: Iterable[str]) -> list[int]:
        """Return the places of entries; a name that is none, but several with commas between them, is those.

        Titles hold commas too: one that is known as it stands is one entry.
        """
        found: list[int] = []
        for name in names:
            parts = [part.strip() for part in name.split(",") if part.strip()]
            one = name in self.places or _plain(name) in self.titled
            several = not one and len(parts) > 1 and all(p in self.places or _plain(p) in self.titled for p in parts)
            found += map(self.place, parts if several else [name])
        return found

    def texts(self, places: Iterable[int]) -> list[str]:
        """Return what a model reads of some entries."""
        import pyarrow as pa

        return list(self.table["text"].take(pa.array(list(places), pa.int64())).to_pylist())

    @property
    def pictured(self) -> int:
        """How many entries have a picture."""
        column = self.table["image"] if "image" in self.table.column_names else None
        return 0 if column is None else len(column) - column.null_count

    def pictures(self, places: Iterable[int]) -> list[Any]:
        """Return the pictures of some entries as PIL has them, None where there is none; UserError for broken ones."""
        import datasets
        import pyarrow as pa

        from hftransfer.safety.pictures import unreadable

        known, feature = list(places), datasets.Image()
        stored = self.table["image"].take(pa.array(known, pa.int64())).to_pylist()
        found = []
        for place, value in zip(known, stored, strict=True):
            try:
                found.append(None if value is None else feature.decode_example(value))
            except unreadable() as error:
                raise UserError(
                    "pictures of items that can be read are needed",
                    f"that of {self.ids[place]} ({value['path'] or 'encoded'}): {error}", "Mend it, or leave it out.",
                ) from error  # fmt: skip
        return found

    def titles(self, names: Iterable[str]) -> list[str]:
        """Return what entries are called, by their names; those that nobody knows by their names."""
        import pyarrow as pa

        known = list(names)
        at = pa.array([self.places.get(name) for name in known], pa.int64())
        return [title or name for title, name in zip(self.table["title"].take(at).to_pylist(), known, strict=True)]

    @cached_property
    def words(self) -> Words:
        """The words of all texts, as search by words alone needs them."""
        return Words([text or "" for text in self.table["text"].to_pylist()])

    @cached_property
    def pieces(self) -> Pieces:
        """The pieces of words of all texts."""
        return Pieces([text or "" for text in self.table["text"].to_pylist()])


def _plain(title: str) -> str:
    return " ".join(title[:TITLE].casefold().split())


def _again(digest: str) -> Catalogue:
    return _MADE[digest]


def write(catalogue: Catalogue, vectors: np.ndarray, folder: Path, more: Mapping[str, Any] | None = None) -> None:
    """Write ids, titles and vectors as one Parquet file, an entry a row, with `more` columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    titles = pa.array([title[:TITLE] for title in catalogue.titles(catalogue.ids)])
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    table = pa.table({"id": catalogue.table["id"], "title": titles, "vector": values, **(more or {})})
    pq.write_table(table, folder / FILE, compression="zstd")


def read(path: Path) -> tuple[Catalogue, np.ndarray, pa.Table]:
    """Return a catalogue of titles, and the vectors (m, d), that `write` wrote; and the table."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    vectors = np.concatenate([chunk.flatten().to_numpy() for chunk in table["vector"].chunks])
    texts = table.select(["id", "title"]).append_column("text", table["title"])
    return Catalogue(texts, str(path)), vectors.reshape(table.num_rows, -1), table


class Words:
    """BM25 (Robertson and Zaragoza 2009) over the words of a catalogue, in Lucene's form.

    A word that f of n texts hold weighs log(1 + (n - f + 0.5) / (f + 0.5)) * t / (t + K1 * (1 - B + B * length / m))
    in a text that holds it t times, m being the mean length.
    """

    K1, B = 1.2, 0.75

    def __init__(self, texts: Sequence[str]) -> None:
        import scipy.sparse
        from sklearn.feature_extraction.text import CountVectorizer

        self.vectorizer = CountVectorizer(token_pattern=r"(?u)\w+", dtype=np.float32)
        try:
            counts = self.vectorizer.fit_transform(texts).tocsr()
        except ValueError:  # no text holds a word
            self.weights = None
            return
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        seen = np.bincount(counts.indices, minlength=counts.shape[1])
        rare = np.log1p((len(texts) - seen + 0.5) / (seen + 0.5))
        owner = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
        long = self.K1 * (1 - self.B + self.B * lengths / max(lengths.mean(), 1e-9))
        counts.data = (rare[counts.indices] * counts.data / (counts.data + long[owner])).astype(np.float32)
        self.weights = scipy.sparse.csr_matrix(counts).T.tocsr()

    def scores(self, queries: Sequence[str]) -> np.ndarray | None:
        """Return the scores (n, m) of all texts for some queries; a word that a query repeats counts as often."""
        if self.weights is None:
            return None
        return np.asarray((self.vectorizer.transform(queries) @ self.weights).toarray())


class Pieces:
    """TF-IDF of pieces of words, 2 to 4 characters: what texts without blanks between words have in common too."""

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), max_features=20_000, dtype=np.float32
        )
        self.weights = self.vectorizer.fit_transform(texts).T.tocsr()

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """Return the scores (n, m) of all texts for some queries."""
        return np.asarray((self.vectorizer.transform(queries) @ self.weights).toarray())


class OfCatalogue:
    """The part of an answer that kinds fill in which answer with entries of a catalogue."""

    catalogue: Catalogue | None = None
    known: Any = None  # what a model makes of each entry
    crowd: Any = None  # what counts beside that
    measures_untuned: ClassVar[bool] = False  # whether the model as it came is measured beside the trained one

    def among(self, catalogue: Catalogue) -> Self:
        """Return the answer with the catalogue that it chooses from; UserError for one that leaves no choice."""
        return self

    def with_negatives(self, count: int) -> Self:
        """Return the answer with so many wrong entries beside each right one in training."""
        return self

    def entry(self, model: Any, batch: dict[str, Any]) -> list[np.ndarray]:
        """Return what is known of each entry of a batch that answers are chosen by: its vector (d,)."""
        raise NotImplementedError

    def knowing(self, vectors: np.ndarray) -> Self:
        """Return the answer with a model's vectors (m, d) of all entries, by which it chooses."""
        return self

    @property
    def sees(self) -> bool:
        """Whether entries are seen, as pictures, by a model that stays as it came, and none is read."""
        return False

    @property
    def read_beside(self) -> bool:
        """Whether another model beside the one that makes vectors has the last word."""
        return False

    @property
    def has_histories(self) -> bool:
        """Whether rows are what somebody had of the catalogue, in its order."""
        return False

    def of_sequences(self, vectors: np.ndarray) -> Any:
        """Return the answer by which a transformer learns what comes next, over a model's vectors (m, d)."""
        raise NotImplementedError

    def reading(self, reader: Any) -> Self:
        """Return the answer with a trained transformer that reads what somebody had."""
        raise NotImplementedError

    def rivals(self, truth: Rows, rows: Any) -> list[Trivial]:
        """Return other answers without a model of ours, which are measured beside the trivial one."""
        return []

    def weights(self, truth: Rows, outputs: Rows, rows: Any, vectors: np.ndarray) -> dict[str, Any]:
        """Return the fields that say what else counts beside a model's vectors (m, d), as validation rows choose."""
        return {}

    def unweighed(self, outputs: Rows, rows: Any) -> list[Trivial]:
        """Return what the model's vectors alone answer to rows, where more than they counts."""
        return []

    @property
    def weighs(self) -> bool:
        """Whether there is something else that may count beside a model's vectors."""
        return False

    @property
    def to_prepare(self) -> Self:
        """The answer as rows are prepared with, without what a model made of the catalogue, which is large."""
        return self

    def write_entries(self, artifact: Path) -> None:
        """Write the catalogue and its vectors to where `with_entries` finds them, beside an artifact or into it."""

    def with_entries(self, artifact: Path) -> Self:
        """Return the answer with the catalogue and the vectors that lie beside an artifact or in it, if any do."""
        return self
