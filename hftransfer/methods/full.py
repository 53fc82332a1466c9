"""full: train all weights, or all but a frozen part."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from hftransfer.config import MethodConfig, RunConfig, Section
from hftransfer.errors import UserError, nearest
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    from torch import nn

    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.modeling.loading import Loaded
    from hftransfer.tasks.base import Task


class Options(Section):
    """The options of `full`."""

    name: str = "full"
    freeze: tuple[
        str, ...
    ] = ()  # shell patterns of module or parameter names: "*.embeddings*", "bert.encoder.layer.[0-3]"
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # learning rate of a layer as a share of the one above it
    backbone_rate: Annotated[float, Field(gt=0, le=10)] | None = None  # share of the learning rate; none: the answer's
    unfreeze_after: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the steps in which only the head trains
    cache_frozen: bool = True  # run frozen lower layers once, where that changes nothing but their dropout
    init_head: Literal["random", "probe"] = "random"  # what the head starts from
    negatives: Annotated[int, Field(ge=0, le=64)] = 0  # wrong entries of a catalogue beside each right one, mined


class Full(Method):
    """Gradient descent on the weights themselves."""

    about = "train all weights; freeze parts by pattern, decay the learning rate by layer, warm the head up first"
    OPTIONS = Options
    learning_rate = 5e-5

    def try_options(self, config: RunConfig, task: Task, threads: int) -> None:
        """Ask TrainingArguments and Trainer."""
        from hftransfer.fitting import arguments

        arguments.rehearse(config, task, self.learning_rate, threads)

    def gave_way(self, setup: Setup) -> list[str]:
        """Return what of Trainer's options was set to match the user's."""
        from hftransfer.fitting import arguments

        return arguments.gave_way(setup, self.learning_rate)

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Freeze what the patterns name."""
        options = Options.model_validate(config.model_dump())
        for pattern in options.freeze:
            freeze(loaded.model, pattern)
        if not any(p.requires_grad for p in loaded.model.parameters()):
            raise UserError("something must train", "method.freeze covers every weight", "Freeze less.")
        return loaded.model

    def require(self, setup: Setup, loaded: Loaded) -> None:
        """Refuse options that are about a head which there is not."""
        require_head(setup, Options.model_validate(setup.config.method.model_dump()))

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Train with Trainer, with a learning rate for each layer if asked."""
        from hftransfer.fitting import recorder, trainer
        from hftransfer.frozen import cached_encoder, cached_layers
        from hftransfer.methods import probe

        options = Options.model_validate(setup.config.method.model_dump())
        require_head(setup, options)
        if options.init_head == "probe":
            probe.start_head(setup, loaded)
        model = self.apply(loaded, setup.config.method)
        groups = groups_of(setup, model, options)
        callbacks = []
        if options.unfreeze_after:
            held = _backbone_parameters(model)
            callbacks.append(recorder.unfreezing(held, options.unfreeze_after))
        if not (options.freeze and options.cache_frozen) or options.unfreeze_after:
            return trainer.descend(setup, model, self.learning_rate, groups=groups, callbacks=callbacks)
        # of models without a linear head nobody knows which layers run one after the other, but for an encoder's
        cached = cached_layers if setup.answer.linear is not None else cached_encoder
        with cached.computed_once(setup, model) as (shortened, seconds):
            fitted = trainer.descend(shortened, model, self.learning_rate, groups=groups)
        return dataclasses.replace(fitted, train_seconds=fitted.train_seconds + seconds)


def groups_of(setup: Setup, model: Any, options: Options) -> list[dict[str, Any]] | None:
    """Return optimizer groups by layer, or for the backbone, as options or the kind of answer say; None: one rate."""
    if options.layer_decay < 1:
        return layer_groups(model, options.layer_decay)
    rate = setup.answer.backbone_rate if options.backbone_rate is None else options.backbone_rate
    return backbone_groups(model, rate) if rate != 1 else None


def require_head(setup: Setup, options: Options) -> None:
    """Raise UserError for options that are about a head, where the answer needs none, or none that can be solved."""
    answer = setup.answer
    asked = {
        "init_head=probe": options.init_head == "probe" and answer.linear is None,
        "unfreeze_after": bool(options.unfreeze_after) and not answer.makes_head,
    }
    for name in (name for name, wrong in asked.items() if wrong):
        raise UserError(
            f"method.{name} needs a task whose model gets a new head", f"this one answers with {setup.answer.called}",
            "Drop it.",
        )  # fmt: skip


def freeze(model: nn.Module, pattern: str) -> int:
    """Freeze every parameter whose name, or whose module's name, matches a shell pattern; return how many."""
    from torch.nn.modules.batchnorm import _BatchNorm

    names = [name for name, _ in model.named_parameters()]
    modules = [name for name, _ in model.named_modules() if name]
    chosen = {m for m in modules if fnmatch.fnmatchcase(m, pattern)}
    found = 0
    for name, parameter in model.named_parameters():
        parents = {name.rsplit(".", k)[0] for k in range(1, name.count(".") + 1)}
        if fnmatch.fnmatchcase(name, pattern) or parents & chosen:
            parameter.requires_grad_(False)
            found += 1
    if not found:
        close = nearest(pattern.strip("*"), modules) or ", ".join(modules[:6])
        raise UserError(
            "method.freeze names modules or parameters of the model",
            f"{pattern!r} matches none of its {len(names)} parameters",
            f"Close to it: {close}.",
        )
    for module in model.modules():
        # a frozen batch norm also keeps its running mean and variance, whatever Trainer's model.train() says
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda frozen, inputs: frozen.eval() and None)
    return found


def layer_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return optimizer groups with `scale`, the share of the learning rate of each depth (Howard and Ruder 2018).

    A layer is an element of the backbone's outermost list of modules: a transformer block, a stage of a Swin or a
    ResNet. What stands before the list (embeddings, stem) is one layer below it, what stands behind it one above.
    """
    from torch import nn as torch_nn

    from hftransfer.modeling.parts import backbone_prefix

    prefix = backbone_prefix(model)
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch_nn.ModuleList | torch_nn.Sequential)
        and name.startswith(prefix)
        and len(module) > 1
    ]
    outermost = min(lists, key=lambda name: (name.count("."), -_size(model.get_submodule(name))), default=None)
    if outermost is None:
        raise UserError(
            "method.layer_decay needs a backbone with layers", f"{type(model).__name__} has none", "Drop it."
        )
    depth = sum(1 for _ in model.get_submodule(outermost).children())
    groups: dict[int, list[Any]] = {}
    started = False
    for name, parameter in model.named_parameters():
        if name.startswith(f"{outermost}."):
            started = True
            level = int(name.removeprefix(f"{outermost}.").split(".")[0]) + 1
        else:
            level = depth + 1 if started or not name.startswith(prefix) else 0
        if parameter.requires_grad:
            groups.setdefault(level, []).append(parameter)
    return [
        {"params": parameters, "scale": decay ** (depth + 1 - level)} for level, parameters in sorted(groups.items())
    ]


def backbone_groups(model: nn.Module, rate: float) -> list[dict[str, Any]] | None:
    """Return optimizer groups in which the backbone learns at `rate` of the rest's learning rate; None: it is frozen.

    The backbone of a detector is what is called so inside of it, where something is: a decoder stands between.
    """
    inner = {name for name, _ in model.named_parameters() if "backbone" in name.split(".")}
    inside = inner or {name for name, p in model.named_parameters() if name.startswith(_prefix(model))}
    parts = {
        scale: [p for name, p in model.named_parameters() if p.requires_grad and (name in inside) == of_backbone]
        for scale, of_backbone in ((rate, True), (1.0, False))
    }
    return [{"params": found, "scale": scale} for scale, found in parts.items()] if all(parts.values()) else None


def _prefix(model: nn.Module) -> str:
    from hftransfer.modeling.parts import backbone_prefix

    return backbone_prefix(model)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _backbone_parameters(model: nn.Module) -> list[nn.Parameter]:
    prefix = _prefix(model)
    return [p for name, p in model.named_parameters() if name.startswith(prefix) and p.requires_grad]


METHOD = Full()
