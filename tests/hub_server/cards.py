"""The metadata at the top of a README: read for a repo's info, and checked as the Hub checks it before a push."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

BLOCK = re.compile(r"^\ufeff?\s*---[ \t]*\r?\n(.*?)(?:^|\r?\n)---[ \t]*(?:\r?\n|$)", re.DOTALL | re.MULTILINE)
EMPTY = "empty or missing yaml metadata in repo card (https://huggingface.co/docs/hub/model-cards#model-card-metadata)"
# https://github.com/huggingface/hub-docs/blob/main/docs/hub/repositories-licenses.md
_LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
other
"""
LICENSES = tuple(_LICENSES.split())
# https://github.com/huggingface/huggingface.js/blob/main/packages/tasks/src/pipelines.ts
_TASKS = """
biology text-classification token-classification table-question-answering question-answering
zero-shot-classification translation summarization feature-extraction text-generation text2text-generation
fill-mask sentence-similarity text-to-speech text-to-audio automatic-speech-recognition audio-to-audio
audio-classification audio-text-to-text voice-activity-detection depth-estimation image-classification
object-detection image-segmentation text-to-image image-to-text image-to-image image-to-video
unconditional-image-generation video-classification reinforcement-learning robotics tabular-classification
tabular-regression tabular-to-text table-to-text multiple-choice text-ranking text-retrieval
time-series-forecasting text-to-video image-text-to-text visual-question-answering document-question-answering
zero-shot-image-classification graph-ml mask-generation zero-shot-object-detection text-to-3d image-to-3d
image-feature-extraction video-text-to-text keypoint-detection visual-document-retrieval any-to-any
image-text-to-image image-text-to-video video-to-video other
"""
TASKS = tuple(_TASKS.split())
# ISO 639-1
_LANGUAGES = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv
ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne
ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss
st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LANGUAGES = frozenset(_LANGUAGES.split())
REPO_ID = re.compile(r"^(?![.\-/])(?!.*(--|\.\.))[\w.-]{1,96}(/[\w.-]{1,96})?$")


def metadata(text: str) -> dict[str, Any] | None:
    """The front matter of a README, None when there is none or it is not a mapping."""
    found = BLOCK.match(text)
    try:
        loaded = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    return loaded if isinstance(loaded, dict) else None


def check(text: str, kind: str) -> tuple[list[str], list[str]]:
    """The errors and the warnings that the Hub finds in a README's metadata."""
    found = BLOCK.match(text)
    if found is None or not found[1].strip():
        return [], [EMPTY]
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [" ".join(str(error).split())], []
    if data is None:
        return [], [EMPTY]
    if not isinstance(data, dict):
        return ['"metadata" must be of type object'], []
    return list(_errors(data, kind)), []


def _errors(data: dict[Any, Any], kind: str) -> Iterator[str]:
    for value in _several(data.get("license")):
        if value not in LICENSES:
            yield f'"license" must be one of [{", ".join(LICENSES)}]'
    for value in _several(data.get("language")):
        if not isinstance(value, str) or not _is_language(value):
            yield (
                f'"language" with value "{value}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code '
                '(two/three letters), or a special value like "code", "multilingual". If you want to use BCP-47 '
                "identifiers, you can specify them in language_bcp47."
            )
    if "tags" in data and data["tags"] is not None:
        yield from _strings(data["tags"], "tags")
    if kind == "model":
        yield from _model_errors(data)
    if kind == "dataset":
        for field in ("task_categories", "task_ids", "size_categories"):
            for value in _several(data.get(field)):
                if not isinstance(value, str):
                    yield f'"{field}" must be a string'
                elif field == "task_categories" and value not in TASKS:
                    yield f'The task_categories "{value}" is not in the official list: {", ".join(TASKS)}'
    if kind == "space" and "sdk" in data and data["sdk"] not in ("gradio", "docker", "static", "streamlit"):
        yield '"sdk" must be one of [gradio, docker, static, streamlit]'


def _model_errors(data: dict[Any, Any]) -> Iterator[str]:
    tag = data.get("pipeline_tag")
    if tag is not None and tag not in TASKS:
        yield f'The pipeline tag "{tag}" is not in the official list: {", ".join(TASKS)}'
    for value in _several(data.get("base_model")):
        if not isinstance(value, str) or not REPO_ID.match(value):
            yield f'"base_model" with value "{value}" is not valid. Use a model id from https://hf.co/models.'
    for value in _several(data.get("datasets")):
        if not isinstance(value, str) or not REPO_ID.match(value):
            yield f'"datasets" with value "{value}" is not valid. Use a dataset id from https://hf.co/datasets.'
    if "library_name" in data and not isinstance(data["library_name"], str):
        yield '"library_name" must be a string'
    if data.get("model-index") is not None:
        yield from _index_errors(data["model-index"])


def _index_errors(index: Any) -> Iterator[str]:
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for number, model in enumerate(index):
        at = f"model-index[{number}]"
        if not isinstance(model, dict):
            yield f'"{at}" must be of type object'
            continue
        yield from _required(model, at, name=str)
        if "results" not in model:
            yield f'"{at}.results" is required'
        elif not isinstance(model["results"], list):
            yield f'"{at}.results" must be an array'
        else:
            for place, result in enumerate(model["results"]):
                yield from _result_errors(result, f"{at}.results[{place}]")


def _result_errors(result: Any, at: str) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f'"{at}" must be of type object'
        return
    for field, wanted in (("task", {"type": str}), ("dataset", {"type": str, "name": str})):
        if not isinstance(result.get(field), dict):
            yield f'"{at}.{field}" is required' if field not in result else f'"{at}.{field}" must be of type object'
        else:
            yield from _required(result[field], f"{at}.{field}", **wanted)
    metrics = result.get("metrics")
    if not isinstance(metrics, list):
        yield f'"{at}.metrics" is required' if metrics is None else f'"{at}.metrics" must be an array'
        return
    for number, metric in enumerate(metrics):
        if not isinstance(metric, dict):
            yield f'"{at}.metrics[{number}]" must be of type object'
        else:
            yield from _required(metric, f"{at}.metrics[{number}]", type=str, value=object)


def _required(mapping: dict[Any, Any], at: str, **fields: type) -> Iterator[str]:
    for field, kind in fields.items():
        value = mapping.get(field)
        if value is None or (isinstance(value, float) and value != value):  # JSON has no NaN: it arrives as null
            yield f'"{at}.{field}" is required'
        elif not isinstance(value, kind):
            yield f'"{at}.{field}" must be a string'


def _strings(value: Any, field: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f'"{field}" must be an array'
        return
    for number, item in enumerate(value):
        if not isinstance(item, str):
            yield f'"{field}[{number}]" must be a string'


def _several(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _is_language(code: str) -> bool:
    if code in ("code", "multilingual"):
        return True
    # 639-2 and 639-3 are some eight thousand codes: their shape is checked, not their membership
    return code in LANGUAGES or re.fullmatch("[a-z]{3}", code) is not None
