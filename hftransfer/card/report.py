"""A card as it is read: front matter and sections; written beside the weights."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from hftransfer import artifact
from hftransfer.card.about import About
from hftransfer.card.checklist import checklist
from hftransfer.card.choices import choices
from hftransfer.card.findings import data, inputs, limits, quality
from hftransfer.card.markup import MATH, bullets, code, duration, fenced, hidden, prose, quoted, shell, table
from hftransfer.card.metadata import metadata
from hftransfer.config import RunConfig
from hftransfer.runs import verdict_of, write_text
from hftransfer.yaml_core import dump_yaml, read_yaml

NAME = "README.md"
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
    template = resources.files("hftransfer.card").joinpath("template.md").read_text(encoding="utf-8")
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
        checklist=checklist(about),
        version=code(result["versions"]["hftransfer"]),
    )
    return f"---\n{dump_yaml(metadata(about))}---\n\n{body}"


def sentence(about: About) -> str:
    """Return in one sentence what the model is."""
    kind = f"A model for {about.config.task}"
    how = f"adapted with the method {code(about.method)} to {code(about.data)}"
    said = f"{kind}: {code(about.model)}, {how}, and measured on rows that it was not trained on."
    verdict = verdict_of(about.result)
    return "\n\n".join([said, *(f"**{prose(one)}**" for one in verdict.sentences if verdict.useless)])


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
        values = (role.takes.example for role in about.task.shown if role.takes is not None and role.name in roles)
        texts = [json.loads(value) for value in values]
        again = [
            f"another {text.removeprefix('a ')}" if i and text in texts[:i] else text for i, text in enumerate(texts)
        ]
        example = json.dumps(dict(zip(roles, again, strict=True)))
    asked = "rows.csv" if len(roles) > 1 else shlex.quote(example.strip('"'))
    told = f"  # a table with the columns {', '.join(roles)}" if len(roles) > 1 else ""
    parts = [
        *as_a_stranger(about, place, example),
        f"With hftransfer{about.answer.adds}:",
        fenced(f"from hftransfer import Predictor\n\nprint(Predictor({place})({example}))", "python"),
        fenced(f"hftransfer predict {shell(about.place)} {asked}{told}", "bash"),
    ]
    parts += in_javascript(about, place)
    if about.is_peft:
        auto = about.task.auto_name(about.answer)
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


def as_a_stranger(about: About, place: str, example: str) -> list[str]:
    """Return how transformers alone asks the model: by its pipeline, or by the Auto class where there is none."""
    carried = about.result.get("carried", {})
    said = about.task.conditions(carried)
    if about.task.pipeline is None:
        row = {role.name: role.takes.example for role in about.task.shown if role.takes is not None}
        lines = about.task.snippet(place, row, about.result)
        return [
            about.task.alone, fenced(f"{lines}\nprint(answer)", "python"), *([" ".join(said)] if said else [])
        ]  # fmt: skip
    decided, cut = about.answer.decided_in("scores"), about.task.cut_in_pipeline(about.result.get("max_length"))
    if decided:
        said = [
            "Without the last lines, `pipeline()` answers by one half: what was chosen on validation rows is not in "
            "the weights.",
            *said,
        ]
        lines = "\n".join(
            [
                "from transformers import pipeline\n",
                f'classify = pipeline("{about.task.pipeline}", model={place})',
                f'scores = {{one["label"]: one["score"] for one in classify({example}, top_k=None{cut})}}',
                *decided,
                "print(answer)",
            ]
        )
    else:
        lines = (
            "from transformers import pipeline\n\n"
            f'answer = pipeline("{about.task.pipeline}", model={place})\n'
            f"print(answer({about.task.given(example, carried)}{about.answer.in_pipeline}{cut}))"
        )
    return ["With transformers:", fenced(lines, "python"), *([" ".join(said)] if said else [])]


def in_javascript(about: About, place: str) -> list[str]:
    """Return how a browser or Node asks the ONNX model, and how that was checked; nothing where there is none."""
    found = about.result.get("onnx") or {}
    if not found:
        return []
    files = " and ".join(code(name) for name in found.get("files", ["model.onnx"]) if "quantized" not in name)
    near = (
        f"As ONNX, in `onnx/`: {files} gave the outputs of these weights on {found['rows']} test rows, to "
        f"{found['largest_difference']:.1g}."
    )
    small = found["quantized"]
    if small and "value" in small:
        beside = "" if small["whole"] is None else f"; these weights have {small['whole']:.3f} there"
        near += (
            f" With 8 bits a weight (`_quantized`) it has {code(small['metric'])} {small['value']:.3f} "
            f"({small['low']:.3f} to {small['high']:.3f}) on {small['n']:,} test rows{beside}."
        )
    single = len(inputs(about)) == 1 or about.task.browser_takes_all
    lines = about.task.javascript(place, '"fp32"', about.answer) if found["transformers_js"] and single else None
    if lines is None:
        return [near]
    points = [(str(point.label), point.threshold) for point in about.answer.points]
    told = [f"{code(label)} from {threshold:.3g} on" for label, threshold in points if threshold is not None]
    return [
        near,
        "With transformers.js, in a browser or Node (`q8`, not `fp32`: 8 bits a weight):",
        fenced(lines, "js"),
        *([f"These are scores. What was chosen on validation rows is not in the weights: {'; '.join(told)}."]
          if told else []),
    ]  # fmt: skip


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
    return "\n\n".join([bullets(facts), *choices(about.result)])


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
