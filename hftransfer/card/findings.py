"""What a card says of the rows and the scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer.audit import cleanliness_report, forgetting_report
from hftransfer.card.about import About
from hftransfer.card.markup import bullets, code, figure, prose, some, table
from hftransfer.evaluation import telling
from hftransfer.runs import verdict_of

MOST_CLASSES = 50  # rows of the table of classes
FEW = 30  # test rows of a class below which its own scores say little
PICTURES = {
    "confusion_matrix": "Confusion matrix of the test rows",
    "reliability": "Reliability diagram of the test rows",
    "decision_curve": "Decision curve: net benefit of acting on the answers, on all rows and on none",
    "predicted_vs_true": "Predicted against true values of the test rows",
}


def quality(about: About) -> str:
    """Return the scores: all, by class, and how far probabilities can be believed."""
    test, baseline = about.result["test"], about.result["baseline"]
    confidence = f"{test.get('confidence', about.config.evaluation.confidence) * 100:g} %"
    parts = [
        f"Measured once, on {test['n']:,} test rows that no choice was made with. Intervals are {confidence}"
        f"{by(about)}.",
        table(
            ("metric", "value", "interval", "baseline"),
            [
                (
                    code(name) + ("" if better_is_higher(name) else " (lower is better)"),
                    figure(score["value"]),
                    f"{figure(score['low'])} to {figure(score['high'])}",
                    figure(baseline["metrics"][name]["value"]) if name in baseline["metrics"] else "",
                )
                for name, score in about.metrics.items()
            ],
        ),
        f"The baseline ({prose(baseline['name'])}) {prose(about_baseline(baseline))}."
        + "".join(f" **{prose(one)}**" for one in verdict_of(about.result).sentences),
    ]
    parts += [bullets(prose(note) for note in test.get("notes", ()))] if test.get("notes") else []
    parts += [bullets(map(prose, said))] if (said := telling.sentences(about.result)) else []
    parts += by_class(test["classes"])
    for found in telling.tables(about.result):
        cells = [(code(row[0]), *row[1:]) for row in found.rows]
        parts += [f"{prose(found.title)}:", table(tuple(map(prose, found.header)), cells)]
    parts += [picture(name) for name in about.plots if "reliability" not in name]
    parts += calibration(about)
    parts += compared(about)
    return "\n\n".join(parts)


def by(about: About) -> str:
    """Return by what the intervals resample, where that is not rows, as the end of a sentence."""
    groups = about.result["test"].get("groups")
    return f", resampled by {code(str(about.group))} ({groups:,} of them)" if groups else ""


def about_baseline(baseline: Mapping[str, Any]) -> str:
    """Return what a trivial answer does; older results do not say."""
    return str(baseline.get("about", "answers the same whatever the input"))


def compared(about: About) -> list[str]:
    """Return how the model stands beside those of the other methods, where they were run on the same rows."""
    found = about.result.get("comparison")
    if not found:
        return []
    rows = [
        (
            "**recommended**" if one["recommended"] else "as good" if one["not_worse"] else "",
            code(one["name"]) + (" (this model)" if one["name"] == found["name"] else ""),
            figure(one["value"]),
            f"{figure(one['low'])} to {figure(one['high'])}",
            "" if one["seconds"] is None else f"{one['seconds']:,.1f}",
        )
        for one in found["models"]
    ]
    header = ("", "method", code(found["metric"]), "interval", "seconds")
    shown = [f"![Score of each method against the seconds it took]({found['picture']})"]
    return [
        "### Beside others on the same test rows",
        " ".join(map(prose, found["sentences"])),
        *(shown if re.fullmatch(r"[\w/-]+\.png", found["picture"], re.A) else []),
        table(header, rows),
        bullets([*map(prose, found["notes"]), *(f"Not possible: {code(one['name'])}." for one in found["skipped"])]),
    ]


def by_class(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of classes, the worst of them when they are many."""
    if not classes:
        return []
    scores = [name for name in classes[0] if name not in ("name", "n") and not name.endswith(("_low", "_high"))]
    main = next(name for name in scores if f"{name}_low" in classes[0])
    worst = sorted(classes, key=lambda row: (row[main] is None, row[main]))
    shown = worst if len(classes) > MOST_CLASSES else classes
    rows = [
        (
            code(row["name"]),
            f"{row['n']:,}",
            *(figure(row[name]) for name in scores),
            "" if row[f"{main}_low"] is None else f"{figure(row[f'{main}_low'])} to {figure(row[f'{main}_high'])}",
        )
        for row in shown[:MOST_CLASSES]
    ]
    titles = [score_title(name) for name in scores]
    drawn = table(("class", "n", *titles, f"interval of {score_title(main)}"), rows)
    if len(classes) <= MOST_CLASSES:
        return [drawn]
    lowest = f"the {MOST_CLASSES} with the lowest {score_title(main)}"
    return [f"Of {len(classes):,} classes {lowest}; `hftransfer.json` has all.", drawn]


def score_title(name: str) -> str:
    """Return what a column of scores is called."""
    return {"f1": "F1"}.get(name, name.replace("_", " "))


def calibration(about: About) -> list[str]:
    """Return what the probabilities are worth, before and after the temperature."""
    found = about.result.get("calibration")
    if not found:
        return []
    divided = f"`Predictor` and `hftransfer predict` divide the outputs by {figure(found['temperature'])}"
    before, after = found.get("calibration_error"), found.get("calibration_error_calibrated")
    if found["temperature"] == 1:
        told = "No temperature is applied: `pipeline()` and `Predictor` give the same probabilities."
        if before is not None:
            told = f"Calibration error on the test rows: {figure(before)}. {told}"
    elif before is None:
        told = f"{divided}, a temperature fitted on the validation rows; `pipeline()` does not."
    else:
        told = (
            f"Calibration error on the test rows: {figure(before)} as the model is, which is what `pipeline()` gives; "
            f"{figure(after)} from `Predictor` and `hftransfer predict`, which divide the outputs by "
            f"{figure(found['temperature'])}, a temperature fitted on the validation rows."
        )
        told += "" if after <= before else " Here it did not lower the error."
    return [told, *(picture(name) for name in about.plots if "reliability" in name)]


def data(about: About) -> str:
    """Return where the rows are from, how they were used, and what was found out about them."""
    found, source, config = about.result["data"], about.data_source, about.config.data
    kinds = {"hub": "a data set of the Hub", "sample": "a sample of hftransfer", "local": "files of the author"}
    kind = kinds.get(str(source.get("kind")), "")
    facts = [
        f"Source: {code(about.data)}"
        + (f", {kind}" if kind else "")
        + (f", configuration {code(config.name)}" if config.name else "")
        + (f", revision {code(source['revision'])}" if source.get("revision") else "")
        + ".",
        f"Licence: {code(source['license']) if source.get('license') else 'unknown'}.",
        f"Fingerprint of all rows: {code(found['fingerprint'])}.",
        *unlabelled(about),
    ]
    columns = about.result.get("columns") or ()
    if columns:
        named = (f"{code(choice['role'])} is column {code(choice['column'])}" for choice in columns)
        facts.append(f"Columns: {', '.join(named)}.")
    prints = found.get("split_fingerprints", {})
    splits = [
        (code(name), f"{rows:,}", code(prints[name][:16]) if name in prints else "")
        for name, rows in found["splits"].items()
    ]
    parts = [bullets(facts), table(("split", "rows", "fingerprint"), splits)]
    if found.get("guesses"):
        parts.append(f"Guessed of the files:\n\n{bullets(map(prose, found['guesses']))}")
    for title, said in grouped(about).items():
        parts.append(f"{title}:\n\n{bullets(map(prose, said))}" if said else f"{title}: none found.")
    looked = [f"{name}: {told}" for name, told in cleanliness_report.facts(found)]
    if looked:
        parts.append(f"Copies and labels:\n\n{bullets(map(prose, looked))}")
    return "\n\n".join(parts)


def unlabelled(about: About) -> list[str]:
    """Return what unlabelled rows came to, where there were any."""
    found = about.result.get("self_training")
    if not found:
        return []
    head = f"Unlabelled rows: {found['rows']:,}, of which {found['sure']:,} were answered with at least "
    head += f"{found['threshold']:.0%}"
    change = found["change"]
    if change is None:
        return [f"{head}: they taught nothing."]
    outcome = "these taught the head again" if found["kept"] else "not shown to help, the head is without them"
    return [
        f"{head}. With them {code(found['metric'])} on validation changes by {change['value']:+.3f} "
        f"({change['low']:+.3f} to {change['high']:+.3f}, {found['confidence']:.0%} interval of the difference): "
        f"{outcome}."
    ]


def grouped(about: About) -> dict[str, list[str]]:
    """Return the warnings by what they are about. That no leak was found is said where it was looked for."""
    groups: dict[str, list[str]] = {"Leakage": [], "Truncation": [], "Other notes": []}
    for warning in about.warnings:
        groups[group(warning)].append(warning)
    looked = {"Leakage"} if about.result["data"].get("leakage") is not None else set()
    return {title: said for title, said in groups.items() if said or title in looked}


def group(warning: str) -> str:
    """Return under which title a warning stands."""
    if warning.startswith("leakage:") or " are in both train and " in warning:
        return "Leakage"
    return "Truncation" if " were cut at " in warning else "Other notes"


def limits(about: About) -> list[str]:
    """Return what the figures do not say, each from a fact of the run."""
    test, config, source = about.result["test"], about.config, about.data_source
    found = []
    verdict = verdict_of(about.result)
    if verdict.useless:
        told = "That it is better than a trivial answer ({}) is not shown: do not use it as it is."
        worse = "It is worse than a trivial answer ({}): do not use it as it is."  # what older results know
        found.append((told if "verdict" in about.result else worse).format(prose(about.result["baseline"]["name"])))
    if about.main in about.metrics:
        score = about.metrics[about.main]
        trivial = about.result["baseline"]["metrics"].get(about.main)
        if trivial and score["low"] <= trivial["value"] <= score["high"] and not found:
            found.append(
                f"The interval of {code(about.main)} reaches the baseline's {figure(trivial['value'])}: that the "
                "model is better is not shown."
            )
        half = (score["high"] - score["low"]) / 2
        found.append(
            f"{test['n']:,} test rows give {code(about.main)} to about ±{figure(half)}: they cannot tell this model "
            "from one that differs less."
        )
    found.append(f"One run with seed {about.result['seed']}: what another seed would change is not in the intervals.")
    rare = sorted((row for row in test["classes"] if row["n"] < FEW), key=lambda row: row["n"])
    if rare:
        named = [f"{code(row['name'])} ({row['n']})" for row in rare]
        found.append(f"Classes with fewer than {FEW} in the test, whose own scores say little: {some(named)}.")
    leaks = (about.result["data"].get("leakage") or {}).get("test", {})
    if leaks:
        named = [f"{count:,} with {name}" for name, count in leaks.items()]
        found.append(f"Test rows that are not new to the model: it shares {', '.join(named)}; the scores flatter it.")
    found += without_leaks(about)
    found += forgetting_report.facts(about.result)
    if any(" were cut at " in warning for warning in about.warnings):
        found.append("What stood behind the cut of long rows (Data, above) was neither learned nor judged.")
    longest = config.data.max_length or about.result.get("max_length")
    if longest:
        found.append(f"At most {longest:,} tokens are read at once.")
    if any(role.takes.spoken for role in about.task.shown if role.takes is not None):
        spoken = ", ".join(map(code, about.languages))
        known = f"Language: {spoken}; no other was tested." if spoken else "The language of the data is not recorded."
        found.append(known)
    found.append(
        f"Measured on rows of {code(about.data)} alone. On rows of another source, time or style expect lower scores."
        if source.get("kind") != "sample"
        else f"Measured on {code(about.data)} alone, a sample for trying things out: expect lower scores elsewhere."
    )
    found += about.answer.limits()
    if about.licence is None:
        found.append("Its licence is unknown.")
    found.append("Not tested: fairness between groups of people, safety, inputs made to mislead it.")
    return found


def without_leaks(about: About) -> list[str]:
    """Return the main score on the test rows that have no copy in train, where others have."""
    clean = about.result.get("without_leaked_rows")
    if not clean or about.main not in clean["metrics"] or about.main not in about.metrics:
        return []
    score, all_rows = clean["metrics"][about.main], about.metrics[about.main]
    where = " or ".join(clean.get("learnt", ["train"]))
    where += ", which it learned from as well" if "validation" in where else ""
    return [
        f"Without the {clean['left_out']:,} test rows that have a copy in {where}, the same, near or likely, "
        f"{code(about.main)} is {figure(score['value'])} ({figure(score['low'])} to {figure(score['high'])}, "
        f"n = {clean['n']:,}); with them {figure(all_rows['value'])}."
    ]


def inputs(about: About) -> list[str]:
    """Return the roles that an input has, of those that a column was found for."""
    taken = {choice["role"] for choice in about.result.get("columns") or ()}
    return [role.name for role in about.task.shown if role.name in taken and not role.teaches]


def better_is_higher(name: str) -> bool:
    """Tell whether a higher value is better; of a metric of the Hub nobody says."""
    from hftransfer import answers

    known = answers.metrics()
    return name not in known or known[name].greater_is_better


def picture(name: str) -> str:
    """Return a plot, with words for who cannot see it."""
    return f"![{PICTURES.get(Path(name).stem, Path(name).stem.replace('_', ' ').capitalize())}]({name})"
