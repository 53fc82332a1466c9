"""The ways in which a pretrained model answers without training: its own head, entailment, similarity, prompts."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers.models.auto import modeling_auto

from hftransfer import features, fitting, forms, modeling
from hftransfer.fitting import Setup
from hftransfer.modeling import Loaded
from hftransfer.tasks.base import Labels

SCALE = 20.0  # of cosines before the softmax: sentence-transformers' own, in the loss most encoders are trained with
FLATTEN = 1e-4  # keeps the log odds finite where a similarity separates the validation rows


@dataclass(frozen=True)
class Way:
    """A model that answers, whether `from_pretrained` can load its like, and how it answers, in words.

    `odds` tells whether its logits are log odds of each label by themselves, as several labels a row need them.
    """

    model: Any
    plain: bool
    about: str
    odds: bool = True


def find(setup: Setup, loaded: Loaded, templates: Sequence[str], premise: str | None = None) -> Way | None:
    """Return the first way that works: own head, then those that the task names in their order; None without one.

    A label's name is put into each of the templates, and two texts that belong together into `premise`: the task's own
    where there are none.
    """
    own = modeling.load_own(setup.config, setup.task, setup.processor)
    if own is not None:
        places = matching(modeling.label_names(own.config), setup.labels)
        if places is not None:
            return Way(with_labels(own, places, setup.labels), True, "the model's own head, which has these labels")
    if setup.labels.kind not in ("single_label", "multi_label"):
        return None  # numbers and tags have no names that a sentence could hold
    entailment = functools.partial(_entailment, premise=premise or setup.task.premise)
    asked: dict[str, Any] = {"entailment": entailment, "similarity": _similarity, "image_text": _image_text}
    for name in setup.task.direct:
        way = asked[name](setup, loaded, own, templates or setup.task.templates[name])
        if way is not None:
            return way if way.odds or setup.labels.kind == "single_label" else decided(setup, way)
    return None


def matching(names: Sequence[str], labels: Labels) -> list[int] | None:
    """Return which output of a head stands for each label, by name without case and punctuation; None when one lacks.

    A regression matches a head with one output.
    """
    if labels.kind == "regression":
        return [0] if len(names) == 1 else None
    known = [_plain(name) for name in names]
    wanted = [_plain(name) for name in labels.names]
    if len(set(wanted)) < len(wanted) or any(known.count(name) != 1 for name in wanted):
        return None
    return [known.index(name) for name in wanted]


def with_labels(model: Any, places: Sequence[int], labels: Labels) -> Any:
    """Keep the outputs at `places` of a model's head, in that order, under the names of `labels`."""
    own = Labels(labels.kind, tuple(modeling.label_names(model.config)))
    name = features.output_layer(model, own)
    old = model.get_submodule(name)
    layer = nn.Linear(old.in_features, labels.outputs, bias=old.bias is not None)
    with torch.no_grad():
        layer.weight.copy_(old.weight[list(places)])
        if old.bias is not None:
            layer.bias.copy_(old.bias[list(places)])
    model.set_submodule(name, layer)
    modeling.set_labels(model.config, labels)
    model.num_labels = labels.outputs
    return model


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def label_words(name: str) -> str:
    """Return a label's name as it stands in a sentence."""
    return re.sub(r"[_\-/]+", " ", name).strip()


# --- several labels a row, from logits that compare labels with one another ---


class Decided(nn.Module):
    """A model whose logits are scaled and shifted, all alike, so that a label is given where they are above 0."""

    def __init__(self, model: Any, scale: float, shift: float) -> None:
        super().__init__()
        self.model, self.scale, self.shift = model, scale, shift

    def forward(self, **batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return log odds (rows, labels)."""
        return {"logits": self.scale * self.model(**batch)["logits"] + self.shift}


def decided(setup: Setup, way: Way) -> Way:
    """Return the way with logits that are log odds: two numbers are fitted to the validation rows."""
    truth, logits = fitting.predict(setup, way.model, setup.prepared["validation"])
    scale, shift = log_odds(logits, truth)
    about = f"{way.about}; the similarity from which a label is given was fitted to {len(truth)} validation rows"
    if not way.plain:
        return Way(Decided(way.model, scale, shift), False, about)
    layer = way.model.get_submodule(features.output_layer(way.model, setup.labels))
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.mul_(scale).add_(shift)
    return Way(way.model, True, about)


def log_odds(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the scale, 0 or more, and the shift that make logits (n, k) log odds of `truth` (n, k) of 0 and 1.

    Both hold for all labels (Platt 2000, with one pair for all): a label that no row has is decided like the others.
    """
    middle, spread = float(logits.mean()), float(logits.std()) or 1.0
    values, aims = (np.asarray(logits, np.float64) - middle) / spread, np.asarray(truth, np.float64)

    def loss(found: np.ndarray) -> float:
        odds = found[0] * values + found[1]
        return float(np.mean(np.logaddexp(0, odds) - odds * aims)) + FLATTEN * float(found[0] ** 2)

    scale, shift = scipy.optimize.minimize(loss, [1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return float(scale / spread), float(shift - scale * middle / spread)


# --- entailment (Yin et al. 2019) ---


class Entailment(nn.Module):
    """An entailment model, the outputs that speak for and against, the sentences of each label, and the premise."""

    def __init__(self, model: Any, entailed: int, refused: int, hypotheses: list[list[str]], premise: str) -> None:
        super().__init__()
        self.model, self.entailed, self.refused = model, entailed, refused
        self.hypotheses, self.premise = hypotheses, premise

    def forward(self, **batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return the entailment model's own outputs."""
        return {"logits": self.model(**batch)["logits"]}


class Entailed(nn.Module):
    """An entailment model asked whether the second text follows from the first: its other outputs are one answer."""

    def __init__(self, model: Any, entailed: int, places: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.entailed, self.places = model, entailed, places

    def forward(self, **batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return logits (rows, 2) in the order of the labels."""
        logits = self.model(**batch)["logits"]
        others = [i for i in range(logits.shape[1]) if i != self.entailed]
        pair = torch.stack([logits[:, self.entailed], logits[:, others].logsumexp(dim=1)], dim=1)
        return {"logits": pair[:, list(self.places)]}


def _entailment(setup: Setup, loaded: Loaded, own: Any, templates: Sequence[str], premise: str) -> Way | None:
    if own is None:
        return None
    names = [_plain(name) for name in modeling.label_names(own.config)]
    entailed = [i for i, name in enumerate(names) if name.startswith("entail")]
    refused = [i for i, name in enumerate(names) if name.startswith(("contradict", "notentail"))]
    if len(entailed) != 1 or len(refused) != 1:
        return None
    wanted = [_plain(name) for name in setup.labels.names]
    if sorted(wanted) == ["entailment", "notentailment"]:
        places = (wanted.index("entailment"), 1 - wanted.index("entailment"))
        return Way(Entailed(own, entailed[0], places), False, "whether the first text entails the second")
    if setup.task.with_hypothesis(setup.rows["test"], "", premise) is None:
        return None
    hypotheses = [[template.format(label_words(name)) for template in templates] for name in setup.labels.names]
    model = Entailment(own, entailed[0], refused[0], hypotheses, premise)
    return Way(model, False, f"entailment of {hypotheses[0][0]!r} and the like by each text")


def ask(setup: Setup, model: Entailment, split: str) -> tuple[Any, Any]:
    """Return (truth, logits): for one label a row the score of entailment, for several its lead over contradiction."""
    columns, truth = [], None
    for sentences in model.hypotheses:
        found = []
        for sentence in sentences:
            rows = setup.task.with_hypothesis(setup.rows[split], sentence, model.premise)
            prepared = setup.task.prepare(rows, setup.processor, setup.preparation, training=False)
            truth, logits = fitting.predict(setup, model, prepared)
            against = logits[:, model.refused] if setup.labels.kind == "multi_label" else 0.0
            found.append(logits[:, model.entailed] - against)
        columns.append(np.mean(found, axis=0))
    return truth, np.stack(columns, axis=1)


# --- similarity of a text's embedding to those of the labels' names ---


class Similarity(nn.Module):
    """Cosines between the mean of a text's token states and one embedding a label."""

    prompts: torch.Tensor

    def __init__(self, backbone: Any, prompts: torch.Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("prompts", functional.normalize(prompts, dim=-1))

    def forward(self, **batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return SCALE times the cosines, (rows, labels)."""
        vectors = functional.normalize(mean_states(self.backbone, batch), dim=-1)
        return {"logits": SCALE * vectors @ self.prompts.T}


def mean_states(backbone: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean over the tokens of the last states, (rows, d)."""
    hidden = backbone(**batch)["last_hidden_state"].float()
    mask = batch["attention_mask"][..., None]
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def _similarity(setup: Setup, loaded: Loaded, own: Any, templates: Sequence[str]) -> Way | None:
    model = loaded.model
    encoder = (
        model.config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )  # a decoder's mean says little
    if not encoder:
        return None
    about = (
        f"similarity of each text's embedding to that of {templates[0].format(label_words(setup.labels.names[0]))!r}"
    )
    prompts = [[template.format(label_words(name)) for template in templates] for name in setup.labels.names]
    found = features.extract(setup, loaded, "validation")
    features.tell(setup, (found,))
    pooled = found.pooled
    offered = forms.forms(model, setup.labels, pooled, loaded.fresh)
    form = next((form for form in offered if form.normed and form.name == "mean"), None)
    if form is None:
        backbone = features.backbone_of(model).eval()
        with torch.inference_mode():
            vectors = [
                functional.normalize(mean_states(backbone, _encoded(setup, texts)), dim=-1) for texts in prompts
            ]
        averaged = torch.stack([found.mean(dim=0) for found in vectors]).clone()
        return Way(Similarity(backbone, averaged), False, f"{about} and the like", odds=False)
    built = form.build().eval()
    shown = []
    with features.kept_outputs(built, setup.labels) as kept, torch.inference_mode():
        for texts in prompts:
            built(**_encoded(setup, texts))
            shown.append(kept[features.HEAD].double().numpy() - form.offset)
    length = float(np.linalg.norm(np.concatenate(shown), axis=1).mean())  # the same for every text
    means = np.stack([found.mean(axis=0) for found in shown])
    weight = SCALE * means / np.linalg.norm(means, axis=1, keepdims=True) / length
    forms.set_output(built, setup.labels, weight, -weight @ np.broadcast_to(form.offset, weight.shape[1:]))
    return Way(built, True, f"{about} and the like, as a head", odds=False)


def _encoded(setup: Setup, texts: list[str]) -> dict[str, torch.Tensor]:
    found = setup.processor(
        texts, padding=True, truncation=True, max_length=setup.preparation.max_length, return_tensors="pt"
    )
    return dict(found)


# --- pictures beside prompts (CLIP: Radford et al. 2021; SigLIP: Zhai et al. 2023) ---


class ImageText(nn.Module):
    """An image-text model and the embeddings of one prompt a label."""

    prompts: torch.Tensor

    def __init__(self, model: Any, prompts: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("prompts", functional.normalize(prompts, dim=-1))

    def forward(self, pixel_values: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return the logits that the model itself gives pictures and prompts, (rows, labels)."""
        vectors = functional.normalize(self.model.get_image_features(pixel_values)["pooler_output"].float(), dim=-1)
        logits = self.model.logit_scale.exp() * vectors @ self.prompts.T
        biases = [parameter for name, parameter in self.model.named_parameters() if name == "logit_bias"]
        return {"logits": logits + biases[0] if biases else logits}


def _image_text(setup: Setup, loaded: Loaded, own: Any, templates: Sequence[str]) -> Way | None:
    config = setup.config
    settings = transformers.AutoConfig.from_pretrained(
        loaded.source, revision=config.revision, trust_remote_code=False
    )
    kind = settings.model_type
    if kind not in (*modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES, modeling.DUAL_ENCODER):
        return None
    name = "AutoModel" if kind == modeling.DUAL_ENCODER else "AutoModelForZeroShotImageClassification"
    with modeling.explained(config, setup.task, loaded.source):
        model = (
            getattr(transformers, name)
            .from_pretrained(
                loaded.source,
                revision=config.revision,
                dtype=torch.float32,
                use_safetensors=None if config.allow_pickle else True,
                trust_remote_code=False,
            )
            .eval()
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            loaded.source, revision=config.revision, trust_remote_code=False
        )
    longest = modeling.positions(settings.text_config)
    padding = "max_length" if kind.startswith("siglip") else True  # SigLIP was trained on nothing else
    vectors = []
    for name in setup.labels.names:
        texts = [template.format(label_words(name)) for template in templates]
        batch = tokenizer(texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        batch = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
        with torch.inference_mode():
            found = model.get_text_features(**batch)["pooler_output"]
        vectors.append(functional.normalize(found, dim=-1).mean(dim=0))
    about = f"the picture beside {templates[0].format(label_words(setup.labels.names[0]))!r} and the like"
    odds = kind.startswith("siglip")  # it was trained to say of each text by itself whether it fits
    return Way(ImageText(model, torch.stack(vectors).clone()), False, about, odds)
