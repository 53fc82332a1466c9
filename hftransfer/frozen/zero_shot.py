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

from hftransfer.answers._head import logits_of, matching, plain
from hftransfer.answers.base import Answer, Rows
from hftransfer.fitting import speed
from hftransfer.fitting.base import Setup
from hftransfer.frozen import features, out_of_fold, pooling_heads
from hftransfer.modeling import inference, loading
from hftransfer.modeling.loading import Loaded
from hftransfer.modeling.prepared import Prepared, prepare
from hftransfer.modeling.problems import explained

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
    where there are none. A model whose answers come from no linear head over labels is asked as it is.
    """
    if setup.answer.linear is None:
        return None if loaded.fresh else Way(loaded.model, True, "the pretrained model as it is")
    own = loading.load_own(setup.config, setup.task, setup.processor)
    if own is not None:
        places = own_places(own.config, setup.answer)
        if places is not None:
            return Way(with_labels(own, places, setup.answer), True, "the model's own head, which has these labels")
    target = setup.answer.linear
    if target is None or target.numeric or target.by_part:
        return None  # numbers and tags have no names that a sentence could hold
    entailment = functools.partial(_entailment, premise=premise or setup.task.premise)
    asked: dict[str, Any] = {"entailment": entailment, "similarity": _similarity, "image_text": _image_text}
    for name in setup.task.direct:
        way = asked[name](setup, loaded, own, templates or setup.task.templates[name])
        if way is not None:
            return way if way.odds or target.exclusive else decided(setup, way)
    return None


def own_places(settings: Any, answer: Answer[Any]) -> list[int] | None:
    """Return which output of a model's head stands for each name; None when one lacks. A number matches one output."""
    names = loading.label_names(settings)
    if answer.linear is not None and answer.linear.numeric:
        return [0] if len(names) == 1 else None
    return matching(names, answer.names)


def with_labels(model: Any, places: Sequence[int], answer: Answer[Any]) -> Any:
    """Keep the outputs at `places` of a model's head, in that order, under the names of `answer`."""
    name = features.output_layer(model, answer.of_config(model.config))
    old = model.get_submodule(name)
    layer = nn.Linear(old.in_features, answer.outputs, bias=old.bias is not None)
    with torch.no_grad():
        layer.weight.copy_(old.weight[list(places)])
        if old.bias is not None:
            layer.bias.copy_(old.bias[list(places)])
    model.set_submodule(name, layer)
    answer.configure(model.config)
    model.num_labels = answer.outputs
    return model


def logits(setup: Setup, model: Any, found: Prepared) -> np.ndarray:
    """Return a model's logits (n, k) of every row, whatever labels they are of."""
    parts = inference.batches(found, inference.BATCH)
    workers = speed.loader_workers(setup.config, setup.task)
    with inference.answering(model):
        items = inference.over(model, found, setup.asking, lambda batch: list(logits_of(model, batch)), parts, workers)
    return np.stack([items[i] for i in range(len(found))])


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
    validation = setup.prepared["validation"]
    truth = np.asarray(validation.truth)
    scale, shift = log_odds(logits(setup, way.model, validation), truth)
    about = f"{way.about}; the similarity from which a label is given was fitted to {len(truth)} validation rows"
    if not way.plain:
        return Way(Decided(way.model, scale, shift), False, about)
    layer = way.model.get_submodule(features.output_layer(way.model, setup.answer))
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.mul_(scale).add_(shift)
    return Way(way.model, True, about)


def log_odds(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the scale, 0 or more, and the shift that make logits (n, k) log odds of `truth` (n, k) of 0 and 1.

    Both hold for all labels (Platt 2000, with one pair for all): a label that no row has is decided like the others.
    """
    middle, spread = float(found.mean()), float(found.std()) or 1.0
    values, aims = (np.asarray(found, np.float64) - middle) / spread, np.asarray(truth, np.float64)

    def loss(pair: np.ndarray) -> float:
        odds = pair[0] * values + pair[1]
        return float(np.mean(np.logaddexp(0, odds) - odds * aims)) + FLATTEN * float(pair[0] ** 2)

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
    names = [plain(name) for name in loading.label_names(own.config)]
    entailed = [i for i, name in enumerate(names) if name.startswith("entail")]
    refused = [i for i, name in enumerate(names) if name.startswith(("contradict", "notentail"))]
    if len(entailed) != 1 or len(refused) != 1:
        return None
    wanted = [plain(name) for name in setup.answer.names]
    if sorted(wanted) == ["entailment", "notentailment"]:
        places = (wanted.index("entailment"), 1 - wanted.index("entailment"))
        return Way(Entailed(own, entailed[0], places), False, "whether the first text entails the second")
    if setup.task.with_hypothesis(setup.rows["test"], "", premise) is None:
        return None
    hypotheses = [[template.format(label_words(name)) for template in templates] for name in setup.answer.names]
    model = Entailment(own, entailed[0], refused[0], hypotheses, premise)
    return Way(model, False, f"entailment of {hypotheses[0][0]!r} and the like by each text")


def ask(setup: Setup, model: Entailment, split: str) -> Rows:
    """Return outputs: for one label a row by the score of entailment, for several by its lead over contradiction."""
    several = not out_of_fold.linear_of(setup.answer).exclusive
    columns = []
    for sentences in model.hypotheses:
        found = []
        for sentence in sentences:
            rows = setup.task.with_hypothesis(setup.rows[split], sentence, model.premise)
            made = logits(setup, model, prepare(setup.task, rows, setup.processor, setup.preparation, training=False))
            found.append(made[:, model.entailed] - (made[:, model.refused] if several else 0.0))
        columns.append(np.mean(found, axis=0))
    return setup.answer.of_logits(np.stack(columns, axis=1))


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
        f"similarity of each text's embedding to that of {templates[0].format(label_words(setup.answer.names[0]))!r}"
    )
    prompts = [[template.format(label_words(name)) for template in templates] for name in setup.answer.names]
    found = features.extract(setup, loaded, "validation")
    features.tell(setup, (found,))
    pooled = found.pooled
    offered = pooling_heads.forms(model, setup.answer, pooled, loaded.fresh)
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
    with features.kept_outputs(built, setup.answer) as kept, torch.inference_mode():
        for texts in prompts:
            built(**_encoded(setup, texts))
            shown.append(kept[features.HEAD].double().numpy() - form.offset)
    length = float(np.linalg.norm(np.concatenate(shown), axis=1).mean())  # the same for every text
    means = np.stack([found.mean(axis=0) for found in shown])
    weight = SCALE * means / np.linalg.norm(means, axis=1, keepdims=True) / length
    pooling_heads.set_output(built, setup.answer, weight, -weight @ np.broadcast_to(form.offset, weight.shape[1:]))
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
    if kind not in (*modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES, loading.DUAL_ENCODER):
        return None
    name = "AutoModel" if kind == loading.DUAL_ENCODER else "AutoModelForZeroShotImageClassification"
    with explained(config, setup.task, loaded.source):
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
    loading.require_intact(loaded.source, config.revision)
    longest = loading.positions(settings.text_config)
    padding = "max_length" if kind.startswith("siglip") else True  # SigLIP was trained on nothing else
    vectors = []
    for name in setup.answer.names:
        texts = [template.format(label_words(name)) for template in templates]
        batch = tokenizer(texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        batch = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
        with torch.inference_mode():
            found = model.get_text_features(**batch)["pooler_output"]
        vectors.append(functional.normalize(found, dim=-1).mean(dim=0))
    about = f"the picture beside {templates[0].format(label_words(setup.answer.names[0]))!r} and the like"
    odds = kind.startswith("siglip")  # it was trained to say of each text by itself whether it fits
    return Way(ImageText(model, torch.stack(vectors).clone()), False, about, odds)
