"""What came of a run, in one number and one sentence: at the end of the Train step, and first in the Result step"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from hftransfer import answers
from hftransfer.ui import markup
from hftransfer.ui.saying import retold, say


def of(result: Mapping[str, Any]) -> str:
    """Return the main score with its interval and the baseline, and in a sentence what it means."""
    name, score = next(iter(result["test"]["metrics"].items()))
    trivial = result["baseline"]["metrics"].get(name, {}).get("value")
    low, high = score.get("low"), score.get("high")
    ends = "" if low is None else say("between {low:.3f} and {high:.3f}", low=low, high=high)
    against = "" if trivial is None else f"{retold(result['baseline']['name'])}: {trivial:.3f}"
    small = "; ".join(part for part in (ends, against) if part)
    words = f"{markup.text(name.replace('_', ' '))} {score['value']:.3f} <small>{markup.text(small)}</small>"
    return f'<p class="answer">{words}</p>{_in_words(name, score, trivial)}{_drawn(name, score, result)}'


def in_settings(words: str) -> bool:
    """Tell whether an advice is of commands and settings: it stands behind a line."""
    return "hftransfer " in words or re.search(r"\b[a-z]+\.[a-z]+(_\w+|=)", words) is not None


def _in_words(name: str, score: Mapping[str, Any], trivial: float | None) -> str:
    """Return in a sentence what a score means: of a share of right rows, how many of a hundred; else what it is."""
    metric = answers.metrics().get(name)
    if metric is None:
        return ""
    if not metric.is_share or score.get("low") is None:
        better = say("higher is better") if metric.greater_is_better else say("lower is better")
        words = say("It is: {what}; {better}.", what=retold(metric.about), better=better)
        if trivial is not None:
            words += say(" An answer that does not look has {value:.3f}.", value=trivial)
        return f"<p>{markup.text(words, 1000)}</p>"
    right, low, high = (round(100 * score[end]) for end in ("value", "low", "high"))
    words = say("Of 100 rows like these it is right on about {n} ({low} to {high}).", n=right, low=low, high=high)
    if trivial is not None:
        words += say(" An answer that does not look is right on {n}.", n=round(100 * trivial))
    return f"<p>{words}</p>"


def _drawn(name: str, score: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return the score with its interval and the baseline on one scale, as a picture; nothing without a baseline."""
    value, trivial = score["value"], result["baseline"]["metrics"].get(name, {}).get("value")
    low, high = (value if score.get(end) is None else score[end] for end in ("low", "high"))
    if trivial is None or not all(map(math.isfinite, (value, low, high, trivial))):
        return ""
    least, most = min(0.0, low, trivial), max(low, high, value, trivial)
    most = 1.0 if least >= 0.0 and most <= 1.0 else most
    places = [100 * (one - least) / ((most - least) or 1.0) for one in (value, low, high, trivial)]
    at, begin, end, other = (f"{min(max(one, 0.0), 100.0):.1f}%" for one in places)
    baseline = retold(result["baseline"]["name"])
    known = {"value": value, "low": low, "high": high, "baseline": baseline, "trivial": trivial}
    told = say("{value:.3f}, between {low:.3f} and {high:.3f}; {baseline} {trivial:.3f}", **known)
    return (
        f'<figure class="scale" role="img" aria-label="{markup.text(told)}"><div class="track" aria-hidden="true">'
        f'<i class="range" style="left:{begin};right:calc(100% - {end})"></i>'
        f'<i class="other" style="left:{other}"></i><i class="at" style="left:{at}"></i></div>'
        f'<div class="least" aria-hidden="true">'
        f"<span>{markup.significant(least, 3)}</span><span>{markup.significant(most, 3)}</span></div>"
        f'<figcaption><span class="at">{say("this run")}</span><span class="other">{markup.text(baseline)}</span>'
        "</figcaption></figure>"
    )
