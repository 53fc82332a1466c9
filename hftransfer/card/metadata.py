"""The fields of a card that the Hub reads."""

from __future__ import annotations

import re
from typing import Any

from hftransfer import artifact
from hftransfer.card.about import About, hub_page, is_hub, is_repo_id
from hftransfer.card.markup import LONGEST, figure, visible

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


def metadata(about: About) -> dict[str, Any]:
    """Return the fields that the Hub reads, in the form that huggingface_hub gives them."""
    from huggingface_hub import ModelCardData

    licence_fields = licence_metadata(about)
    library, tag = about.task.listed(about.answer.to_dict())
    base = about.model_source.get("name") if is_hub(about.model_source) else None
    dataset = about.data_source.get("name") if is_hub(about.data_source) else None
    # A merge is what the Hub calls a model of several base models, an adapter what cannot be loaded without its base;
    # weights with a LoRA merged into them are a finetune (hub-docs, model-cards.md, "Specifying a base model")
    fields = ModelCardData(
        language=about.languages or None,
        license=licence_fields.get("license"),
        license_name=licence_fields.get("license_name"),
        license_link=licence_fields.get("license_link"),
        library_name=library,
        pipeline_tag=tag,
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=[dataset] if dataset else None,
        metrics=metric_ids(about) or None,
        tags=["hftransfer", about.method, *(["peft"] if about.is_peft else [])],
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

    from hftransfer import answers

    test, source = about.result["test"], about.data_source
    cut = any(warning.startswith("no test split") for warning in about.warnings)
    split = None if cut else about.config.data.test or "test"
    confidence = f"{test.get('confidence', about.config.evaluation.confidence) * 100:g}%"
    found = []
    for name, score in about.metrics.items():
        low, high = figure(score["low"]), figure(score["high"])
        metric = answers.metrics().get(name)
        kind = (metric and (metric.hub_type or metric.hub)) or name
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
    from hftransfer import answers

    known = answers.metrics()
    ours = [str(known[name].hub) for name in about.metrics if name in known and known[name].hub]
    theirs = [name for name in about.config.evaluation.metrics if name not in known and is_repo_id(name)]
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
