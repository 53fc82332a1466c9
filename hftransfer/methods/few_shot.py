"""few_shot: 8 to 64 labelled rows a class: texts by contrastive tuning and a head, pictures by a head on views."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from hftransfer.config import MethodConfig, Section
from hftransfer.errors import UserError
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    import torch

    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.frozen.features import Features
    from hftransfer.modeling.loading import Loaded

BATCH = 32
EPOCHS = 10  # times that each row is seen, unless train.num_train_epochs or train.max_steps says otherwise
STEPS = 40  # at the least, unless they do: ten epochs of 24 rows would be 8
SAVE_SECONDS = 60.0  # between checkpoints, besides the one of a stop
STATE = "state.pt"
STRENGTH = 0.03  # of the head's penalty: a few validation rows would choose it by chance


class Options(Section):
    """The options of `few_shot`."""

    name: str = "few_shot"
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = (STRENGTH,)  # several are chosen among on validation rows
    views: Annotated[int, Field(ge=1)] = 8  # of each training picture, augmented


class FewShot(Method):
    """Tune the encoder so that texts of one class lie together, then solve a head; of pictures, a head on views."""

    about = (
        "learn from 8 to 64 labelled rows a class: contrastive tuning and a head; of pictures, a head on many views"
    )
    OPTIONS = Options
    learning_rate = 1e-4  # SetFit's 2e-5 is for some twenty times as many steps of fewer pairs
    needs = "linear"
    takes_unlabelled = True

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Everything trains."""
        return loaded.model

    def require(self, setup: Setup, loaded: Loaded) -> None:
        """Refuse texts of which there are no pairs of one class."""
        if setup.prepared["train"].on_epoch is None:
            require_classes(setup)

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Return the plain checkpoint of a probe on the tuned encoder, or on augmented views of the pictures."""
        from hftransfer.fitting.processes import wait_for_everyone
        from hftransfer.frozen import self_training
        from hftransfer.methods.probe import conclude, features_of
        from hftransfer.modeling.parts import count_parameters

        options = Options.model_validate(setup.config.method.model_dump())
        self.require(setup, loaded)
        unlabelled = self_training.read(setup)
        began, steps = time.perf_counter(), 0
        poolings: tuple[str, ...] = ()
        train, validation = features_of(setup, loaded)
        if setup.prepared["train"].on_epoch is None:
            poolings = (pooling_of(setup, loaded, train),)
            steps = pull_together(setup, loaded, poolings[0], self.learning_rate)
            train, validation = features_of(setup, loaded)
        else:
            train = with_views(setup, loaded, train, options.views)
        fitted = conclude(setup, loaded, train, validation, poolings, options.strengths, unlabelled)
        seconds = time.perf_counter() - began
        trainable = count_parameters(loaded.model)[1] if steps else fitted.trainable_parameters
        rows = steps * batch_size(setup) if steps else len(train)
        wait_for_everyone()
        return dataclasses.replace(
            fitted,
            train_seconds=seconds,
            examples_per_second=rows / seconds,
            trainable_parameters=trainable,
            steps=steps,
        )


def require_classes(setup: Setup) -> None:
    """Raise UserError where there are no pairs of one class: several labels, numbers, tags, single rows."""
    answer = setup.answer
    if answer.linear is None or not answer.linear.stratified:
        raise UserError(
            "method.name=few_shot needs texts with one label each", f"these are {answer.called}", "Use probe or lora."
        )
    if min(answer.counts) < 2:
        rare = answer.names[int(np.argmin(answer.counts))]
        raise UserError(
            "method.name=few_shot needs two training rows of each class", f"{rare!r} has fewer", "Label some more."
        )


def pooling_of(setup: Setup, loaded: Loaded, train: Features) -> str:
    """Return what is pulled together: the mean over the tokens, or what the head is shown where that cannot be."""
    from hftransfer.frozen import pooling_heads

    names = [form.name for form in pooling_heads.forms(loaded.model, setup.answer, train.pooled, loaded.fresh)]
    return "mean" if "mean" in names else names[0]


def pull_together(setup: Setup, loaded: Loaded, pooling: str, learning_rate: float) -> int:
    """Tune the model in place so that pooled texts of one class have a cosine of 1 and others of 0; return the steps.

    As SetFit does (Tunstall et al. 2022), but with all pairs of a batch instead of drawn ones: one pass over 32 texts
    compares 496 pairs. Both kinds of pairs weigh the same. Batches depend on the seed alone. When asked to stop it
    leaves a checkpoint and raises Interrupted; from `setup.checkpoint` it goes on as if it had never stopped.
    """
    import torch
    from accelerate import PartialState

    from hftransfer.fitting import speed
    from hftransfer.fitting.arguments import require_disk
    from hftransfer.fitting.base import phase
    from hftransfer.fitting.interruption import Interrupted
    from hftransfer.fitting.processes import is_main_process, wait_for_everyone
    from hftransfer.frozen import features
    from hftransfer.modeling.batches import moved
    from hftransfer.modeling.parts import count_parameters

    options, state, model = setup.config.train.options, PartialState(), loaded.model
    phase(setup, "training")
    require_disk(setup.run.folder, count_parameters(model)[1], count_parameters(model)[1])
    dataset, collate = setup.prepared["train"].dataset, setup.collator
    given = np.asarray(setup.prepared["train"].truth)
    size = batch_size(setup)
    steps = count_steps(options, len(given), size)
    rate = float(options.get("learning_rate", learning_rate))
    half = speed.default_choice(setup.config, setup.task, setup.threads, len(given)).bf16
    torch.manual_seed(setup.config.seed)
    model.to(state.device).train()
    tuning = Tuning.of(model, rate, float(options.get("weight_decay", 0.01)), steps)
    if setup.checkpoint is not None:
        tuning.load(setup.checkpoint)
    first, began = tuning.step, time.perf_counter()
    saved = began
    with features.kept_outputs(model, setup.answer) as kept, setup.interruption.patience():
        for rows in itertools.islice(batches(given, size, setup.config.seed), first, steps):
            batch = moved(collate([dataset[int(i)] for i in rows]), state.device)
            classes = batch.pop("labels")
            with torch.autocast(state.device.type, dtype=torch.bfloat16, enabled=half):
                model(**batch)
            loss = contrast(pooled(kept, batch, pooling), classes)
            loss.backward()
            tuning.descend()
            tell(setup, tuning.step, first, steps, began, (tuning.step - first) * len(rows), loss.item(), tuning.rate)
            stop = asked_to_stop(setup)
            if stop or time.perf_counter() - saved > SAVE_SECONDS:
                saved = time.perf_counter()
                if is_main_process():
                    tuning.save(setup)
            if stop:
                wait_for_everyone()  # with the first process that goes the launcher would end all
                raise Interrupted(tuning.step)
    model.eval()
    if state.num_processes > 1:  # all did the same: rank 0's roundings are everybody's
        for value in (*model.parameters(), *model.buffers()):
            torch.distributed.broadcast(value.data, 0)
    return steps


def asked_to_stop(setup: Setup) -> bool:
    """Tell whether any process was asked to stop, the same on all."""
    import torch
    from accelerate import PartialState

    state, asked = PartialState(), setup.interruption.requested
    if state.num_processes == 1:
        return bool(asked)
    flag = torch.tensor([float(asked)], device=state.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


@dataclass
class Tuning:
    """What a step of the contrastive tuning changes; a checkpoint holds all of it."""

    model: Any
    optimizer: Any
    schedule: Any
    step: int = 0

    @classmethod
    def of(cls, model: Any, rate: float, decay: float, steps: int) -> Tuning:
        """Begin, with a learning rate that rises for a tenth of the steps and falls to nothing."""
        import torch

        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
        warm = max(1, steps // 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm + 1))
        )
        return cls(model, optimizer, schedule)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def descend(self) -> None:
        """Take a step along the gradients."""
        from torch import nn

        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1

    def save(self, setup: Setup) -> None:
        """Write a checkpoint, whole or not at all, in the place of the last one."""
        import torch

        from hftransfer import runs

        folder = setup.run.checkpoints / f"checkpoint-{self.step}"
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        state = {name: part.state_dict() for name, part in parts.items()}
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        torch.save({**state, "random": random, "step": self.step}, folder / STATE)
        runs.seal(folder)
        for old in setup.run.checkpoints.glob("checkpoint-*"):
            if old != folder:
                shutil.rmtree(old)
        setup.run.event("checkpoint", step=self.step, path=f"checkpoints/{folder.name}")
        if setup.on_checkpoint is not None:
            setup.on_checkpoint(folder)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        import torch

        found = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.schedule.load_state_dict(found["schedule"])
        torch.set_rng_state(found["random"]["cpu"])
        if torch.cuda.is_available() and "cuda" in found["random"]:
            torch.cuda.set_rng_state(found["random"]["cuda"])
        self.step = int(found["step"])


def count_steps(options: Mapping[str, Any], rows: int, size: int) -> int:
    """Return the steps that the options of `train` ask for, or the default, with `size` rows a step."""
    if options.get("max_steps", 0) > 0:
        return int(options["max_steps"])
    if "num_train_epochs" in options:
        return max(1, math.ceil(float(options["num_train_epochs"]) * rows / size))
    return max(STEPS, math.ceil(EPOCHS * rows / size))


def contrast(vectors: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance of the cosines (m, m) from 1 within a class and from 0 across, half of each."""
    import torch
    from torch.nn import functional

    unit = functional.normalize(vectors.float(), dim=1)
    cosines = unit @ unit.T
    alike = classes[:, None] == classes[None, :]
    pairs = ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    within, across = (1 - cosines)[alike & pairs], cosines[~alike]
    return 0.5 * torch.stack([(part**2).mean() for part in (within, across) if part.numel()]).sum()


def pooled(kept: dict[str, Any], batch: dict[str, Any], pooling: str) -> torch.Tensor:
    """Return a vector a text of a forward pass, with gradients: a token's, the mean, or what the head is shown."""
    import torch

    from hftransfer.frozen import features

    hidden, mask = kept["backbone"]["last_hidden_state"].float(), batch["attention_mask"]
    if pooling == "mean":
        found: torch.Tensor = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return found
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        places = (torch.arange(hidden.shape[1], device=hidden.device) * mask).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), places]
    shown: torch.Tensor = kept[features.HEAD].float()
    if shown.dim() == 2:
        return shown
    last = (torch.arange(shown.shape[1], device=shown.device) * mask).argmax(dim=1)  # decoders answer there
    return shown[torch.arange(len(shown), device=shown.device), last]


def batches(given: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield rows without end: as many of each class as fit, two at least, so that every batch has pairs of both kinds.

    Each class is dealt out to its end before its rows come again; with more classes than pairs fit, they take turns.
    """
    rng = np.random.default_rng([seed, 2])
    members = [np.flatnonzero(given == label) for label in np.unique(given)]
    several = min(len(members), max(1, size // 2))
    each = max(2, size // several)
    decks: list[list[int]] = [[] for _ in members]
    turns: list[int] = []
    while True:
        drawn = [turns.pop() for _ in range(min(several, len(turns)))]
        if len(drawn) < several:  # the next round begins, with those that are not in this batch already
            order = [int(label) for label in rng.permutation(len(members))]
            turns = [label for label in order if label in drawn] + [label for label in order if label not in drawn]
            drawn += [turns.pop() for _ in range(several - len(drawn))]
        chosen = []
        for label in drawn:
            count = min(each, len(members[label]))
            if len(decks[label]) < count:  # what is left comes first, and once more at the end of the next round
                order = [int(row) for row in rng.permutation(members[label])]
                left = decks[label]
                decks[label] = [row for row in order if row in left] + [row for row in order if row not in left] + left
            chosen += [decks[label].pop() for _ in range(count)]
        yield np.array(chosen)


def with_views(setup: Setup, loaded: Loaded, plain: Features, views: int) -> Features:
    """Return the features of the training pictures and of augmented views of them, together."""
    from hftransfer.frozen import features
    from hftransfer.modeling.prepared import prepare

    parts = [plain]
    for view in range(views if setup.preparation.config.augmentation is not None else 0):
        prepared = prepare(setup.task, setup.rows["train"], setup.processor, setup.preparation, training=True)
        if prepared.on_epoch is not None:
            prepared.on_epoch(view)
        name = f"{setup.fingerprints['train']}:{view}:{setup.config.seed}:{setup.preparation.config.augmentation}"
        seen = dataclasses.replace(
            setup,
            prepared={**setup.prepared, "train": dataclasses.replace(prepared, on_epoch=None)},
            fingerprints={**setup.fingerprints, "train": name},
        )
        parts.append(features.extract(seen, loaded, "train"))
    return dataclasses.replace(
        plain,
        pooled={name: np.concatenate([part.pooled[name] for part in parts]) for name in plain.pooled},
        targets=np.concatenate([part.targets for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
        seconds=sum(part.seconds for part in parts),
    )


def batch_size(setup: Setup) -> int:
    """Return the texts of one step."""
    return int(setup.config.train.options.get("per_device_train_batch_size", BATCH))


def tell(setup: Setup, step: int, first: int, steps: int, began: float, rows: int, loss: float, rate: float) -> None:
    """Write the events of a step, as a fit by Trainer does; `first` were taken by an earlier process."""
    from hftransfer.fitting.processes import is_main_process

    if is_main_process() and (step == steps or step % max(1, steps // 20) == 0):
        spent = time.perf_counter() - began
        left = spent / (step - first) * (steps - step)
        setup.run.event("step", step=step, max_steps=steps, epoch=0.0, seconds=round(spent, 3))
        setup.run.event(
            "log", step=step, max_steps=steps, epoch=0.0, loss=loss, learning_rate=rate,
            examples_per_second=round(rows / spent, 2), eta_seconds=round(left, 1),
        )  # fmt: skip


METHOD = FewShot()
