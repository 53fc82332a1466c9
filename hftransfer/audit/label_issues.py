"""Labels of train that are likely wrong, by confident learning on what a probe says without having seen the row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from hftransfer.answers.base import Answer
from hftransfer.audit import likely_copies, review
from hftransfer.fitting.base import Setup
from hftransfer.fitting.processes import is_main_process
from hftransfer.frozen import features, out_of_fold
from hftransfer.frozen.features import Features
from hftransfer.modeling.loading import Loaded

FILE = "label_issues.csv"
HEADER = ("row_id", "text_or_file", "about", "given", "suggested", "probability", "probability_given")
MOST_ROWS = 10_000  # of train that are looked at
MOST_SENTENCES = 1000  # of tags
FEWEST = 5  # rows (tags: words) that a class needs: one a fold
CERTAIN = 0.9  # is enough where the rows of a class are all but certain: the mean alone would hide errors there
NAMED = 3  # rows that the warning names
ANSWERS = ("no", "yes")  # to each label of multi_label


@dataclass(frozen=True)
class LabelIssues:
    """What was found: how many rows were looked at, and the likely errors, the likeliest first."""

    looked: int
    issues: tuple[Issue, ...]

    @property
    def rows(self) -> int:
        """How many rows have an issue; a row of several labels or words may have several."""
        return len({issue.row_id for issue in self.issues})

    def to_dict(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return {"looked": self.looked, "found": self.rows, "issues": len(self.issues), "file": FILE}

    def warnings(self) -> list[str]:
        """Return one sentence, or none."""
        if not self.issues:
            return []
        named = ", ".join(map(str, self.issues[:NAMED]))
        more = ", ..." if len(self.issues) > NAMED else ""
        many = "" if len(self.issues) == self.rows else f", {len(self.issues)} labels in all"
        return [
            f"labels: {self.rows} of {self.looked} train rows ({self.rows / self.looked:.1%}) may be "
            f"labelled wrongly{many}: {named}{more}; {FILE} lists them to look through"
        ]


@dataclass(frozen=True)
class Issue:
    """One label that may be wrong."""

    row_id: str
    shown: str  # the text, or the picture's file
    about: str  # of several labels a row: which one; of tags: the word's number and the word
    given: str
    suggested: str
    probability: float  # of the suggestion
    probability_given: float

    def __str__(self) -> str:
        about = f"{self.about}: " if self.about else ""
        return f"{self.row_id} ({about}{self.given}, rather {self.suggested})"


def why_not(setup: Setup, loaded: Loaded) -> str | None:
    """Return why label errors cannot be looked for, in words, or None."""
    answer, config = setup.answer, setup.config.data
    if not config.label_issues:
        return "data.label_issues is false"
    if config.streaming:
        return "rows that are streamed are read once, and each must be answered by a probe that did not see it"
    target = answer.linear
    if target is None:
        return f"answers of {answer.called} are no classes, one of which a row could be of instead"
    if target.numeric:
        return "the labels are numbers: there is no other class that a row could be of"
    if target.stratified and min(answer.counts) < FEWEST:
        few = answer.names[int(np.argmin(answer.counts))]
        return f"each class needs {FEWEST} rows of train, {few} has {min(answer.counts)}"
    if not target.stratified and sum(count >= FEWEST for count in answer.counts) < 2:
        return f"fewer than two labels are found {FEWEST} times in train"
    return likely_copies.without_features(setup, loaded)


def look(setup: Setup, loaded: Loaded, bounded: bool = True) -> LabelIssues:
    """Find likely label errors in train, or in some rows of it drawn with the seed; write the run's file.

    `bounded`: no more rows than a look can afford, where nobody needs the features of all. Every process must call;
    the main one writes.
    """
    answer, target = setup.answer, out_of_fold.linear_of(setup.answer)
    most = MOST_SENTENCES if target.by_part else MOST_ROWS
    some, _ = out_of_fold.with_some_rows(setup, out_of_fold.affordable(setup, most) if bounded else most)
    found = features.extract(some, loaded, "train")
    logits, _ = out_of_fold.probe(
        found, answer, out_of_fold.assign(found, answer, setup.config.seed, some.groups.get("train"))
    )
    judged = _of_classes if target.exclusive else _of_labels
    issues = tuple(judged(some, found, answer, target.probabilities(logits)))
    if is_main_process():
        review.write(setup.run.folder / FILE, HEADER, map(astuple, issues))
    return LabelIssues(len(some.rows["train"]), issues)


def _of_classes(some: Setup, found: Features, answer: Answer[Any], probabilities: np.ndarray) -> Iterator[Issue]:
    """Yield what is likely wrong where a row, or a word, has one class."""
    given, by_part = found.targets, out_of_fold.linear_of(answer).by_part
    places, suggested = confident(given, probabilities)
    if by_part:  # a rare tag is not known well enough to accuse, or to be suggested
        often = np.bincount(given, minlength=len(answer.names)) >= FEWEST
        sure = often[given[places]] & often[suggested]
        places, suggested = places[sure], suggested[sure]
    known = review.known_by(some, "train", found.rows[places])
    for place, other, (row_id, shown) in zip(places.tolist(), suggested.tolist(), known, strict=True):
        about = _word(some, found, place) if by_part else ""
        yield _issue(row_id, shown, about, answer.names, int(given[place]), other, probabilities[place])


def _of_labels(some: Setup, found: Features, answer: Answer[Any], probabilities: np.ndarray) -> Iterator[Issue]:
    """Yield what is likely wrong where a row has any number of labels: each label is a question of its own."""
    accused: list[tuple[float, int, int]] = []
    for label in range(len(answer.names)):
        given = found.targets[:, label].astype(np.int64)
        if min(given.sum(), len(given) - given.sum()) < FEWEST:
            continue
        answers = np.stack([1 - probabilities[:, label], probabilities[:, label]], axis=1)
        places, _ = confident(given, answers)
        accused += [(-float(answers[at, 1 - given[at]]), int(at), label) for at in places]
    accused.sort()
    known = review.known_by(some, "train", found.rows[[place for _, place, _ in accused]])
    for (_, place, label), (row_id, shown) in zip(accused, known, strict=True):
        has, of_it = int(found.targets[place, label]), float(probabilities[place, label])
        yield _issue(row_id, shown, answer.names[label], ANSWERS, has, 1 - has, np.array([1 - of_it, of_it]))


def _issue(
    row_id: str, shown: str, about: str, names: tuple[str, ...], given: int, other: int, probabilities: np.ndarray
) -> Issue:
    figures = (round(float(probabilities[which]), 4) for which in (other, given))
    return Issue(row_id, shown, about, names[given], names[other], *figures)


def _word(some: Setup, found: Features, place: int) -> str:
    """Return the number of a word in its row, from 1, and the word."""
    number = place - int(np.searchsorted(found.rows, found.rows[place]))
    words = some.rows["train"][int(found.rows[place])][some.task.shown[0].name]
    return f"word {number + 1} ({words[number]})"


def confident(given: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of likely label errors, the likeliest first, and what each is rather.

    Confident learning (Northcutt, Jiang and Chuang 2021): a row counts as class j when its probability of j reaches
    the mean that rows labelled j have, or CERTAIN; where it reaches several, the highest. Rows that count as another
    class than their own make the off-diagonal of the confident joint, which is scaled to estimate how many errors of
    each kind (given i, truly j) there are; so many are taken, with the largest margin of j over i. `probabilities`
    (n, k) must be of rows that the classifier did not see.
    """
    count = probabilities.shape[1]
    classes = np.arange(count)
    sizes = np.bincount(given, minlength=count)
    own = probabilities[np.arange(len(given)), given]
    thresholds = np.minimum(np.bincount(given, weights=own, minlength=count) / np.maximum(sizes, 1), CERTAIN)
    reached = np.where(probabilities >= np.where(sizes > 0, thresholds, np.inf), probabilities, -1.0)
    truly, counted = reached.argmax(axis=1), reached.max(axis=1) >= 0
    joint = np.zeros((count, count))
    np.add.at(joint, (given[counted], truly[counted]), 1)
    joint *= (sizes / np.maximum(joint.sum(axis=1), 1))[:, None]  # each class has as many rows as are labelled so
    margins = probabilities - own[:, None]
    taken: dict[int, tuple[float, int]] = {}
    for i in classes:
        members = np.flatnonzero(given == i)
        for j in classes[classes != i]:
            best = members[np.argsort(-margins[members, j], kind="stable")][: round(joint[i, j])]
            for place in best[probabilities[best].argmax(axis=1) == j]:
                taken[int(place)] = float(margins[place, j]), int(j)
    order = sorted(taken, key=lambda place: (-taken[place][0], place))
    return np.array(order, np.int64), np.array([taken[place][1] for place in order], np.int64)
