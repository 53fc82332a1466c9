"""What is known of copies and labels is said in words, the same in `check`, card, summary and page."""

from __future__ import annotations

from hftransfer.audit import cleanliness_report

DATA = {
    "splits": {"train": 100, "validation": 20, "test": 30},
    "leakage": {"test": {"train": 12}},
    "hygiene": {"repeated": {"train": 4}, "near": {"test": {"train": 3}, "train": {"train": 2}}, "contradicting": 2},
    "likely_copies": {"found": {"test": {"train": 1}, "validation": {"train": 5}}, "file": "likely_copies.csv"},
    "label_issues": {"looked": 100, "found": 7, "issues": 7, "file": "label_issues.csv"},
    "not_looked_for": {},
}


def test_what_was_found_is_counted_by_place_and_likeness() -> None:
    assert cleanliness_report.facts(DATA) == [
        ("copies of test rows in train", "12 the same, 3 near, 1 likely (likely_copies.csv)"),
        ("copies of validation rows in train", "5 likely (likely_copies.csv)"),
        ("copies within train", "4 the same, 2 near"),
        ("contradicting labels", "2 train rows with the input of another"),
        ("likely wrong labels", "7 of 100 train rows looked at (label_issues.csv)"),
    ]


def test_none_is_said_only_where_it_was_looked_for() -> None:
    clean = {"splits": DATA["splits"], "leakage": {}, "hygiene": {"repeated": {}, "near": {}, "contradicting": 0}}
    assert cleanliness_report.facts(clean) == [("copies of rows", "none found")]
    assert cleanliness_report.facts({"splits": DATA["splits"]}) == []  # a result of an older version
    streamed = {
        "splits": DATA["splits"], "leakage": {}, "hygiene": {"repeated": {}, "near": None, "contradicting": 0},
        "likely_copies": None, "label_issues": None,
        "not_looked_for": {"likely_copies": "this", "label_issues": "that"},
    }  # fmt: skip
    assert cleanliness_report.facts(streamed) == [
        ("copies of rows", "none found"),
        ("near copies", "not looked for: the rows are streamed, or too many"),
        ("likely copies", "not looked for: this"),
        ("likely wrong labels", "not looked for: that"),
    ]
