"""What guidelines ask of reports on clinical models: filled in from what a run knows, the rest left as blanks.

TRIPOD+AI: Collins et al. 2024, doi:10.1136/bmj-2023-078378. CLAIM: Mongan, Moy and Kahn 2020,
doi:10.1148/ryai.2020200029.
"""

from __future__ import annotations

import re

from hftransfer.card.about import About
from hftransfer.card.findings import by
from hftransfer.card.markup import code, figure, prose, table

BLANK = "…"
PEOPLE = frozenset({"patient", "patients", "subject", "subjects", "participant", "participants", "study"})


def clinical(about: About) -> bool:
    """Tell whether rows are of people: files of medicine, or groups that are called so."""
    named = re.findall(r"[a-z]+", (about.group or "").lower())
    return bool(PEOPLE & set(named)) or "window" in about.result.get("carried", {})


def checklist(about: About) -> str:
    """Return the section, with an empty line before it; nothing for rows that are not of people."""
    if not clinical(about):
        return ""
    head = (
        "Items of TRIPOD+AI (2024) and of CLAIM (2020) by their numbers. What the run knows is filled in; who knows "
        f"the rest writes it in place of {BLANK}. A filled list makes no model fit for use on patients."
    )
    return (
        f"\n## For a clinical report\n\n{head}\n\n{table(('item', 'TRIPOD+AI', 'CLAIM', 'this model'), rows(about))}\n"
    )


def rows(about: About) -> list[tuple[str, str, str, str]]:
    """Return the items: what is asked, its numbers, and what is known of it."""
    return [
        ("Intended use, users and place in care", "3a, 3b, 27", "3, 39", BLANK),
        ("Known inequalities between groups of people", "3c", "", BLANK),
        ("Aim: development or evaluation", "4", "4, 6", "Development, evaluated on rows of the same source."),
        ("Source of the data", "5a", "7", f"{code(about.data)}. Why it stands for those the model is for: {BLANK}"),
        ("Dates of collection; prospective or not", "5b", "5", BLANK),
        ("Places, eligibility, treatments", "6", "8", BLANK),
        ("Preparation of the data", "7", "9, 10", _prepared(about)),
        ("De-identification", "", "12", _identities(about)),
        ("Outcome and its definition", "8a", "11, 14, 15", f"{_classes(about)} Definition: {BLANK}"),
        ("Who judged it, with what, how far they agreed", "8b, 8c", "16, 17, 18", BLANK),
        ("Sample size", "10", "19", f"{_sizes(about)} Why so many: {BLANK}"),
        ("Missing data", "11", "13", _missing(about)),
        ("Partitions, and at which level they are apart", "12a, 16", "20, 21", _partitions(about)),
        ("Model, and what it starts from", "12b, 12c", "22, 24", _model(about)),
        ("Training, software, choice of the final model", "12c, 12d", "23, 25, 26", _training(about)),
        ("Imbalance of classes", "13", "", _imbalance(about)),
        ("Output and threshold", "15", "", _threshold(about)),
        ("Performance, with its uncertainty", "12e, 23a", "28, 29, 35, 36", _performance(about)),
        ("Fairness; performance by groups of people", "14, 23b", "34", _slices(about)),
        ("Robustness, explanations, analysis of failures", "", "30, 31, 37", BLANK),
        ("Validation on data of other places", "", "32", f"None by this run. {BLANK}"),
        ("Flow and characteristics of participants", "20", "33, 34", BLANK),
        ("Limitations", "26", "38", f"Under Limits, above. {BLANK}"),
        ("Ethical approval, consent", "17", "", BLANK),
        ("Funding, conflicts, protocol, registration", "18a, 18b, 18c, 18d", "40, 41, 42", BLANK),
        ("Availability of data and code", "18e, 18f", "", f"Configuration and versions: under Reproduce. {BLANK}"),
        ("Involvement of patients and the public", "19", "", BLANK),
    ]


def _prepared(about: About) -> str:
    carried = about.result.get("carried", {})
    found = []
    if carried.get("window") == "own":
        found.append("Each DICOM file is shown by the window that it names.")
    if carried.get("depth"):
        low, high = carried["depth"]
        found.append(f"{low:g} to {high:g} is shown as 0 to 255.")
    return " ".join([*found, "Sizes and normalisation: the processor's configuration, beside the weights."])


def _identities(about: About) -> str:
    if "window" not in about.result.get("carried", {}):
        return BLANK
    return (
        "Of DICOM files the pixels, what says how they are shown, and, for the groups, a hash of whose they are were "
        f"read; no tag is kept or published. What is burnt into pixels is not looked for. {BLANK}"
    )


def _classes(about: About) -> str:
    names = [str(name) for name in about.answer.names]
    return f"{', '.join(map(code, names[:10]))}{', ...' if len(names) > 10 else ''}." if names else ""


def _sizes(about: About) -> str:
    sizes = ", ".join(f"{rows:,} {name}" for name, rows in about.result["data"]["splits"].items())
    groups = about.result["test"].get("groups")
    return f"Rows: {sizes}." + (
        f" The test rows are of {groups:,} groups by {code(str(about.group))}." if groups else ""
    )


def _missing(about: About) -> str:
    dropped = [warning for warning in about.warnings if " rows dropped: " in warning]
    return f"{prose('; '.join(dropped))}." if dropped else "No row had to be left out."


def _partitions(about: About) -> str:
    cut = [warning for warning in about.warnings if " cut from train" in warning]
    shared = [warning for warning in about.warnings if " are in both train and " in warning]
    said = [prose("; ".join(cut)) if cut else "By the source."]
    if about.group and not shared:
        said.append(f"Apart by {code(about.group)}.")
    elif shared:
        said.append(f"Not apart: {prose('; '.join(shared))}.")
    else:
        said.append(f"Apart by rows; whether those of one person are on one side: {BLANK}")
    return " ".join(one if one.endswith((".", BLANK)) else f"{one}." for one in said)


def _model(about: About) -> str:
    return f"{code(about.model)}, {about.result['cost']['total_parameters']:,} parameters, pretrained by others."


def _training(about: About) -> str:
    chosen = about.result.get("selected_by")
    best = f" Choices by {code(str(chosen))} on validation rows." if chosen else ""
    return f"{code(about.method)}, seed {about.result['seed']}; all settings and versions: under Reproduce.{best}"


def _imbalance(about: About) -> str:
    chosen = about.result.get("auto") or {}
    again = (chosen.get("again") or {}).get("options", {}) if chosen.get("final", {}).get("method") != "probe" else {}
    weights = about.config.train.class_weights or again.get("class_weights")
    return (
        "Classes are weighed in training; probabilities answer to those weights." if weights else "Not adjusted for."
    )


def _threshold(about: About) -> str:
    points = (about.result.get("operating") or {}).get("points") or ()
    if not points:
        return "A probability for each class; the most likely one is answered."
    told = [f"{code(str(one['label']))} from {figure(one['threshold'])} on" for one in points if one.get("threshold")]
    return f"{'; '.join(told)}: chosen on validation rows." if told else BLANK


def _performance(about: About) -> str:
    if about.main not in about.metrics:
        return "Under How good it is."
    score = about.metrics[about.main]
    said = (
        f"{code(about.main)} {figure(score['value'])} ({figure(score['low'])} to {figure(score['high'])}{by(about)})"
    )
    return f"{said}; all scores, calibration and decision curve: under How good it is."


def _slices(about: About) -> str:
    found = (about.result.get("slices") or {}).get("columns") or {}
    named = ", ".join(code(str(name)) for name in found)
    return f"By {named}: under How good it is. {BLANK}" if found else BLANK
