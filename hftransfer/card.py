"""The model card: a test report of one run, with the metadata that the Hub reads.

Label names, repo ids, columns, licences and warnings come from users and data. Names are written as code spans and
sentences are escaped, so that none of them can be a link, HTML, Markdown or YAML.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from hftransfer import artifact, catalog, cleanness
from hftransfer.config import RunConfig, dump_yaml, read_yaml
from hftransfer.runs import write_text

NAME = "README.md"
LONGEST = 80  # characters of a name that are shown
LONGEST_SENTENCE = 600
MOST_CLASSES = 50  # rows of the table of classes
MOST_NAMED = 20  # names in one sentence
FEW = 30  # test rows of a class below which its own scores say little

# Our metrics by the Hub's ids (huggingface.co/metrics), where it has one that measures the same. Its brier_score
# goes from 0 to 1 where ours goes from 0 to 2, and its mse is squared where our rmse is not: both are left out.
HUB_METRICS = {
    "accuracy": "accuracy",
    **{f"{name}_{mean}": name for name in ("precision", "recall", "f1") for mean in ("macro", "micro", "weighted")},
    **{f"{name}_entity": "seqeval" for name in ("precision", "recall", "f1")},
    "mcc": "matthews_correlation",
    "roc_auc": "roc_auc",
    "mae": "mae",
    "r2": "r_squared",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
# huggingface.co/docs/hub/repositories-licenses: what the field `license` may hold
LICENCE_IDS = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c
    ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1
    ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3
    llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
LICENCES = frozenset(LICENCE_IDS.split())
# the first pattern that a licence's id matches says, in short, what passing the model on asks for
OBLIGATIONS = (
    (r".*-nd-.*", "It does not allow changed versions to be passed on, and this model is one."),
    (
        r".*-nc-sa-.*",
        "It forbids commercial use, asks to name the authors and to keep the licence on derived works.",
    ),
    (r".*-nc-.*", "It forbids commercial use and asks to name the authors."),
    (r".*-sa-.*", "It asks to name the authors and to keep the licence on derived works."),
    (r"cc-by.*|odc-by", "It asks to name the authors."),
    (r"(a|l)?gpl.*|gfdl|osl.*|eupl.*|odbl|cdla-sharing.*", "It asks to keep the licence on derived works."),
    (r"mpl.*|epl.*", "It asks to keep the licence on changed files."),
    (r"apache-2\.0|ecl-2\.0", "It asks to keep its text and notices with the model, and to say what was changed."),
    (r"mit|isc|bsd.*|ncsa|zlib|postgresql|afl-3\.0", "It asks to keep its text and copyright notice with the model."),
    (r"cc0-1\.0|unlicense|wtfpl|pddl", "It asks for nothing."),
    (
        r".*openrail.*|.*-rail-.*|llama.*|gemma|.*research.*|deepfloyd.*|apple-amlr|grok.*",
        "It limits what the model may be used for, and the limits go with this model to whoever receives it.",
    ),
    (r".*", "Read it before passing the model on."),
)
PICTURES = {
    "confusion_matrix": "Confusion matrix of the test rows",
    "reliability": "Reliability diagram of the test rows",
    "predicted_vs_true": "Predicted against true values of the test rows",
}


def write(folder: Path, result: Mapping[str, Any], config: RunConfig) -> Path:
    """Write README.md beside the weights, with those of the plots that lie there."""
    path = folder / NAME
    there = [name for name in result.get("artifact_plots") or () if (folder / name).is_file()]
    write_text(path, render({**result, "artifact_plots": there}, config))
    return path


def render(result: Mapping[str, Any], config: RunConfig, repo: str | None = None, license: str | None = None) -> str:
    """Return README.md: metadata and body.

    `result` is what result.json holds; `repo` is the Hub id that snippets name; `license` stands in for the base
    model's.
    """
    about = About(result, config, repo, license)
    template = resources.files("hftransfer").joinpath("card_template.md").read_text(encoding="utf-8")
    body = Template(template).substitute(
        title=f"{code(about.model)}, adapted to {code(about.data)}",
        sentence=sentence(about),
        use=use(about),
        quality=quality(about),
        data=data(about),
        cost=cost(about),
        reproduce=reproduce(about),
        licence=licence(about),
        limits=bullets(limits(about)),
        version=code(result["versions"]["hftransfer"]),
    )
    return f"---\n{dump_yaml(metadata(about))}---\n\n{body}"


class About:
    """What several parts of a card ask of a run."""

    def __init__(self, result: Mapping[str, Any], config: RunConfig, repo: str | None, license: str | None) -> None:
        from hftransfer.evaluation.metrics import main_metric_of

        sources = result.get("sources") or {}
        public = artifact.public_config(config)
        self.result, self.config, self.repo, self.chosen_licence = result, config, repo, license
        self.model_source: Mapping[str, Any] = sources.get("model") or {}
        self.data_source: Mapping[str, Any] = sources.get("data") or {}
        self.model: str = self.model_source.get("name") or public.model
        self.data: str = self.data_source.get("name") or public.data.source
        self.task = catalog.task(config.task)
        self.place = repo or "path/or/repo"
        self.metrics: Mapping[str, Any] = result["test"]["metrics"]
        self.main = main_metric_of(self.metrics)
        self.is_peft = catalog.methods()[config.method.name] == catalog.PEFT
        self.is_regression = not result["test"]["classes"]
        self.warnings = [str(warning) for warning in result["data"]["warnings"]]
        self.plots = [name for name in result.get("artifact_plots") or () if re.fullmatch(r"[\w/-]+\.png", name, re.A)]

    @property
    def licence(self) -> str | None:
        """The licence that the card declares."""
        found = self.chosen_licence or self.model_source.get("license")
        return None if not found or found == "unknown" else str(found)

    @property
    def languages(self) -> list[str]:
        """The languages of the data, else of the model, as the Hub writes them."""
        found = self.data_source.get("languages") or self.model_source.get("languages") or ()
        known = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual|code"
        return [language for language in found if re.fullmatch(known, str(language), re.A)]


# --- metadata ---


def metadata(about: About) -> dict[str, Any]:
    """Return the fields that the Hub reads, in the form that huggingface_hub gives them."""
    from huggingface_hub import ModelCardData

    licence_fields = licence_metadata(about)
    base = about.model_source.get("name") if is_hub(about.model_source) else None
    dataset = about.data_source.get("name") if is_hub(about.data_source) else None
    # A merge is what the Hub calls a model of several base models, an adapter what cannot be loaded without its base;
    # weights with a LoRA merged into them are a finetune (hub-docs, model-cards.md, "Specifying a base model")
    method = about.config.method.name
    fields = ModelCardData(
        language=about.languages or None,
        license=licence_fields.get("license"),
        license_name=licence_fields.get("license_name"),
        license_link=licence_fields.get("license_link"),
        library_name="transformers",
        pipeline_tag=about.config.task,
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=[dataset] if dataset else None,
        metrics=metric_ids(about) or None,
        tags=["hftransfer", method, *(["peft"] if about.is_peft else [])],
        model_name=visible(about.repo or f"{about.model}, adapted to {about.data}", 2 * LONGEST),
        eval_results=evaluations(about) or None,
    ).to_dict()
    fields.pop("model_name", None)  # left in where there are no results
    first = ("language", "license", "license_name", "license_link", "library_name", "pipeline_tag")
    order = (*first, "base_model", "base_model_relation", *fields)
    return {name: fields[name] for name in order if name in fields}


def evaluations(about: About) -> list[Any]:
    """Return the test's metrics as huggingface_hub's EvalResults: the value, and the interval in words."""
    from huggingface_hub import EvalResult

    test, source = about.result["test"], about.data_source
    cut = any(warning.startswith("no test split") for warning in about.warnings)
    split = None if cut else about.config.data.test or "test"
    confidence = f"{test.get('confidence', about.config.evaluation.confidence) * 100:g}%"
    found = []
    for name, score in about.metrics.items():
        low, high = figure(score["low"]), figure(score["high"])
        # what is measured of entities has a type of its own: seqeval names the four figures together
        kind = name.removesuffix("_entity") if name.endswith("_entity") else HUB_METRICS.get(name, name)
        found.append(
            EvalResult(
                task_type=about.config.task,
                dataset_type=visible(about.data),
                dataset_name=visible(about.data),
                dataset_config=visible(about.config.data.name) if about.config.data.name else None,
                dataset_split=visible(artifact.public_name(split)) if split else None,
                dataset_revision=source.get("revision") if is_hub(source) else None,
                metric_type=visible(kind),
                metric_name=visible(f"{name} ({confidence} interval {low} to {high}, n = {test['n']})", 2 * LONGEST),
                metric_value=round(score["value"], 6),
            )
        )
    return found


def metric_ids(about: About) -> list[str]:
    """Return the metrics by the Hub's ids: of ours those that it has, and those that were asked for by its names."""
    from hftransfer.evaluation.metrics import METRICS

    ours = [HUB_METRICS[name] for name in about.metrics if name in HUB_METRICS]
    theirs = [name for name in about.config.evaluation.metrics if name not in METRICS and is_repo_id(name)]
    return list(dict.fromkeys([*ours, *theirs]))


def licence_metadata(about: About) -> dict[str, str]:
    """Return the Hub's licence fields; nothing when the licence is unknown."""
    found = about.licence
    if found is None:
        return {}
    if found.lower() in LICENCES and found.lower() != "other":
        return {"license": found.lower()}
    base = about.model_source.get("name")
    name = re.sub(r"[^a-z0-9.]+", "-", found.lower()).strip("-.")[:LONGEST] if found.lower() != "other" else ""
    link = {} if about.chosen_licence or not is_hub(about.model_source) else {"license_link": hub_page(str(base))}
    return {"license": "other", "license_name": name or "see-base-model", **link}


def hub_page(repo: str) -> str:
    """Return the address of a model's page."""
    return f"https://huggingface.co/{repo}"


def is_hub(source: Mapping[str, Any]) -> bool:
    """Tell whether a source is known to be a repository of the Hub, by a name that can be one."""
    return source.get("kind") == "hub" and is_repo_id(str(source.get("name")))


def is_repo_id(name: str) -> bool:
    """Tell whether a name has the form of a Hub id."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.isascii()


# --- body ---


def sentence(about: About) -> str:
    """Return in one sentence what the model is."""
    kind = f"A model for {about.config.task}"
    how = f"adapted with the method {code(about.config.method.name)} to {code(about.data)}"
    return f"{kind}: {code(about.model)}, {how}, and measured on rows that it was not trained on."


def use(about: About) -> str:
    """Return how to ask the model."""
    if about.result.get("artifact", "") is None:
        return (
            "This run has scores and predictions, and no model folder: a checkpoint that `from_pretrained` loads "
            "cannot answer in this way. Run the method again on other rows to have them answered."
        )
    example, place = about.task.example, quoted(about.place)
    roles = inputs(about)
    if len(roles) > 1:
        example = json.dumps({role: "a text" if i == 0 else "another text" for i, role in enumerate(roles)})
    asked = "rows.csv" if len(roles) > 1 else shlex.quote(example.strip('"'))
    told = f"  # a table with the columns {', '.join(roles)}" if len(roles) > 1 else ""
    parts = [
        "With transformers:",
        fenced(
            "from transformers import pipeline\n\n"
            f'answer = pipeline("{about.config.task}", model={place})\nprint(answer({example}))',
            "python",
        ),
        f"With hftransfer{what_predictor_adds(about)}:",
        fenced(f"from hftransfer import Predictor\n\nprint(Predictor({place})({example}))", "python"),
        fenced(f"hftransfer predict {shell(about.place)} {asked}{told}", "bash"),
    ]
    if about.is_peft:
        auto = about.task.auto_model
        parts += [
            "These weights have the trained parts merged into them. The parts alone are in `adapter/`, for peft:",
            fenced(
                "from peft import PeftModel\n"
                f"from transformers import AutoConfig, {auto}\n\n"
                f"config = AutoConfig.from_pretrained({place})\n"
                f"base = {auto}.from_pretrained({quoted(about.model)}, config=config)\n"
                f'model = PeftModel.from_pretrained(base, {place}, subfolder="adapter")',
                "python",
            ),
        ]
    return "\n\n".join(parts)


def what_predictor_adds(about: About) -> str:
    """Return what our answer holds over that of pipeline()."""
    if about.is_regression:
        return ""
    if any(role.kind == "tags" for role in about.task.roles):
        return ", which answers word by word"
    return ", which answers with the probability of every label" + (", calibrated" if temperature(about) != 1 else "")


def quality(about: About) -> str:
    """Return the scores: all, by class, and how far probabilities can be believed."""
    test, baseline = about.result["test"], about.result["baseline"]
    confidence = f"{test.get('confidence', about.config.evaluation.confidence) * 100:g} %"
    parts = [
        f"Measured once, on {test['n']:,} test rows that no choice was made with. Intervals are {confidence}.",
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
        f"The baseline ({prose(baseline['name'])}) answers without looking at the input."
        + (f" **{prose(baseline['below'])}**" if baseline.get("below") else ""),
    ]
    parts += [bullets(prose(note) for note in test.get("notes", ()))] if test.get("notes") else []
    parts += by_class(test["classes"])
    parts += [picture(name) for name in about.plots if "reliability" not in name]
    parts += calibration(about)
    parts += compared(about)
    return "\n\n".join(parts)


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
    shown = sorted(classes, key=lambda row: (row["f1"] is None, row["f1"])) if len(classes) > MOST_CLASSES else classes
    rows = [
        (
            code(row["name"]),
            f"{row['n']:,}",
            *(figure(row[name]) for name in ("precision", "recall", "f1")),
            "" if row["f1_low"] is None else f"{figure(row['f1_low'])} to {figure(row['f1_high'])}",
        )
        for row in shown[:MOST_CLASSES]
    ]
    drawn = table(("class", "n", "precision", "recall", "F1", "interval of F1"), rows)
    if len(classes) <= MOST_CLASSES:
        return [drawn]
    return [f"Of {len(classes):,} classes the {MOST_CLASSES} with the lowest F1; `hftransfer.json` has all.", drawn]


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
    for title, said in grouped(about).items():
        parts.append(f"{title}:\n\n{bullets(map(prose, said))}" if said else f"{title}: none found.")
    looked = [f"{name}: {told}" for name, told in cleanness.facts(found)]
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


def cost(about: About) -> str:
    """Return what the run took."""
    spent, chosen = about.result["cost"], about.result.get("speed") or {}
    share = spent["trainable_parameters"] / max(spent["total_parameters"], 1)
    facts = [
        f"{duration(spent['train_seconds'])} of training, {duration(spent['total_seconds'])} in all",
        f"{spent['peak_memory_mb']:,} MB of memory at the peak",
    ]
    where = spent.get("hardware") or spent.get("device")
    processes = spent.get("processes")
    if where:
        many = "" if not processes else f", {processes} process{'es' if processes > 1 else ''}"
        facts.append(f"on {prose(str(where))}{many}")
    facts.append(
        f"{spent['trainable_parameters']:,} of {spent['total_parameters']:,} parameters trained ({share:.2%})"
    )
    facts.append(f"{spent['examples_per_second']:,.1f} training rows a second")
    if spent.get("steps"):
        best = f", the weights kept are those of step {spent['best_step']:,}" if spent.get("best_step") else ""
        facts.append(f"{spent['steps']:,} updates{best}")
    if chosen.get("micro_batch"):
        bits = "bfloat16" if chosen.get("bf16") else "float32"
        times = f" x {chosen['accumulation']} accumulated" if chosen.get("accumulation", 1) > 1 else ""
        facts.append(f"{bits}, {chosen['micro_batch']} rows a step and process{times}")
    return bullets(facts)


def reproduce(about: About) -> str:
    """Return the commands, the configuration, and the versions."""
    processes = about.result["cost"].get("processes") or 1
    several = f" --processes {processes}" if processes > 1 else ""
    flags = f"--multi_gpu --num_processes {processes} " if processes > 1 else ""
    commands = (
        f"hftransfer reproduce {shell(about.place)}\n\n"
        "# or step by step, with the configuration below as run.yaml\n"
        f"hftransfer train run.yaml{several}\n"
        f"accelerate launch {flags}hftransfer/train.py --config run.yaml  # the same, in a checkout"
    )
    here = "local" in (about.data_source.get("kind"), about.model_source.get("kind"))
    versions = [(code(name), code(version)) for name, version in about.result["versions"].items()]
    parts = [
        fenced(commands, "bash"),
        fenced(recipe(about.config), "yaml"),
        *(["Names of files stand for the author's own: put yours in their place."] if here else []),
        table(("package", "version"), versions),
    ]
    return "\n\n".join(parts)


def recipe(config: RunConfig) -> str:
    """Return run.yaml; as JSON, which is YAML too, when it holds characters that could deceive a reader."""
    text = artifact.recipe(config)
    if any(hidden(char) for char in text if char != "\n") or re.search(MATH, text):
        return quoted(read_yaml(text), indent=1)
    return text.rstrip("\n")


def licence(about: About) -> str:
    """Return whose licence the model has, and what it asks for."""
    found, base = about.licence, code(about.model)
    of_base = about.model_source.get("license")
    parts = []
    if found is None:
        parts.append(
            f"Unknown: that of the base model {base} is, and this model is derived from it. Ask its authors before "
            "passing it on."
        )
    else:
        asked = next(text for pattern, text in OBLIGATIONS if re.fullmatch(pattern, found.lower(), re.DOTALL))
        if about.chosen_licence:
            parts.append(f"{code(found)}, chosen by whoever published it. {asked}")
            known = f"is {code(of_base)}" if of_base else "is unknown"
            parts.append(f"The licence of the base model {base} {known}; this model is derived from it.")
        else:
            parts.append(f"{code(found)}, carried over from the base model {base}. {asked}")
    of_data = about.data_source.get("license")
    parts.append(
        f"The data has a licence of its own: {code(of_data) if of_data else 'unknown'}. It is not part of this "
        "repository."
    )
    return "\n\n".join(parts)


def limits(about: About) -> list[str]:
    """Return what the figures do not say, each from a fact of the run."""
    test, config, source = about.result["test"], about.config, about.data_source
    found = []
    if about.result["baseline"].get("below"):
        found.append("It is worse than an answer that never looks at the input: do not use it as it is.")
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
    if any(" were cut at " in warning for warning in about.warnings):
        found.append("What stood behind the cut of long rows (Data, above) was neither learned nor judged.")
    longest = config.data.max_length or about.result.get("max_length")
    if longest:
        found.append(f"At most {longest:,} tokens are read at once.")
    if about.task.input_widget == "text":
        spoken = ", ".join(map(code, about.languages))
        known = f"Language: {spoken}; no other was tested." if spoken else "The language of the data is not recorded."
        found.append(known)
    found.append(
        f"Measured on rows of {code(about.data)} alone. On rows of another source, time or style expect lower scores."
        if source.get("kind") != "sample"
        else f"Measured on {code(about.data)} alone, a sample for trying things out: expect lower scores elsewhere."
    )
    found += answers(about)
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
    return [
        f"Without the {clean['left_out']:,} test rows that have a copy in train, the same, near or likely, "
        f"{code(about.main)} is {figure(score['value'])} ({figure(score['low'])} to {figure(score['high'])}, "
        f"n = {clean['n']:,}); with them {figure(all_rows['value'])}."
    ]


def answers(about: About) -> list[str]:
    """Return what the answers of this kind of labels are not."""
    if about.is_regression:
        return ["An answer has no interval of its own; outside the range of the training labels it is a guess."]
    if "f1_entity" in about.metrics:
        return ["An entity counts as right with its exact span and type; one half found counts as not found."]
    if "hamming_loss" in about.metrics:
        return ["It knows the labels above alone; each is given on its own, from a probability of one half."]
    return [
        "It gives one of its labels also where none fits, and its probabilities can be believed on rows like those "
        "above, if at all."
    ]


# --- parts ---


def inputs(about: About) -> list[str]:
    """Return the roles that an input has, of those that a column was found for."""
    taken = {choice["role"] for choice in about.result.get("columns") or ()}
    return [role.name for role in about.task.roles if role.kind not in ("label", "tags") and role.name in taken]


def temperature(about: About) -> float:
    """Return what Predictor divides by."""
    return float((about.result.get("calibration") or {}).get("temperature", 1))


def better_is_higher(name: str) -> bool:
    """Tell whether a higher value is better; of a metric of the Hub nobody says."""
    from hftransfer.evaluation.metrics import METRICS

    return name not in METRICS or METRICS[name].greater_is_better


def picture(name: str) -> str:
    """Return a plot, with words for who cannot see it."""
    return f"![{PICTURES.get(Path(name).stem, 'Plot of the test rows')}]({name})"


def figure(value: float | None) -> str:
    """Return a score with three decimals, a large or tiny one with as much as says something."""
    if value is None or not math.isfinite(value):
        return "undefined"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Return seconds, and hours or minutes beside them when they are many."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return (
        f"{seconds:,.0f} s ({seconds / 60:.1f} min)"
        if seconds < 7200
        else f"{seconds:,.0f} s ({seconds / 3600:.1f} h)"
    )


def some(names: Sequence[str]) -> str:
    """Return names in a row, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are escaped already, but for the bars that would divide them."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Escape bars; a backslash before one is set apart, because renderers differ on two backslashes and a bar."""
    return re.sub(r"(?<=\\)(?=\|)", JOINER, text).replace("|", r"\|")


def bullets(lines: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {line}" for line in lines)


def fenced(text: str, language: str) -> str:
    """Return a code block that no run of backticks in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


# --- text from users and data ---

JOINER = "\N{WORD JOINER}"  # invisible and without width: what it parts is no longer a link or a formula
# the Hub renders $$...$$ and \\(...\\) before it reads the Markdown, so that no code span keeps them from it
MATH = r"(?<=\$)(?=\$)|(?<=\\)(?=\\[(\[])"


def hidden(char: str) -> bool:
    """Tell whether a character is none to see: controls, marks that reorder text, lone surrogates, unassigned ones."""
    return unicodedata.category(char)[0] == "C" and char not in "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


def visible(text: str, longest: int = LONGEST) -> str:
    """Return text on one line, of the longest length at most, with a mark in place of every hidden character."""
    line = " ".join(str(text)[: 20 * longest].split())
    shown = "".join("\N{REPLACEMENT CHARACTER}" if hidden(char) else char for char in line)
    return shown if len(shown) <= longest else f"{shown[: longest - 1].rstrip()}…"


def code(text: str) -> str:
    """Return a name as a code span, in which nothing is a link, HTML or Markdown.

    Its marks are the shortest run of backticks that the name does not hold (CommonMark 6.1).
    """
    shown = re.sub(MATH, JOINER, visible(text)) or "(empty)"
    runs = {len(run) for run in re.findall(r"`+", shown)}
    mark = "`" * next(length for length in range(1, len(shown) + 2) if length not in runs)
    blank = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{mark}{blank}{shown}{blank}{mark}"


def prose(text: str) -> str:
    """Return a sentence with names in it as plain text.

    Backslashes do not keep every renderer from making a link of an address: it is parted instead.
    """
    shown = visible(text, LONGEST_SENTENCE)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "&#92;")):
        shown = shown.replace(char, entity)
    shown = re.sub(r"(?<=/)(?=/)|(?<=@)|(?i:(?<=www)(?=\.)|(?<=mailto:))", JOINER, shown)
    shown = re.sub(r"([`*_\[\]|$~])", r"\\\1", shown)
    shown = re.sub(r"(?<=[^\W\d])\.(?=\w)|(?<=\w)\.(?=[^\W\d])", r"\.", shown)  # some link a bare evil.com as well
    return re.sub(r"^(\d*)([-+=#.)])", r"\1\\\2", shown)  # what opens a list, a heading or a rule


def quoted(value: Any, indent: int | None = None) -> str:
    r"""Return JSON that Python and YAML read alike, with hidden characters and the marks of formulas as \u escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = text.replace("$$", "$\\u0024").replace("\\\\(", "\\u005c(").replace("\\\\[", "\\u005c[")
    escape: Callable[[str], str] = lambda char: f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"  # noqa: E731
    return "".join(escape(char) if hidden(char) and char != "\n" else char for char in text)


def shell(text: str) -> str:
    """Return one word of a command line."""
    return re.sub(MATH, "''", shlex.quote(visible(text, 2 * LONGEST)))
