"""Every peft method by its own name and options: nothing of peft is declared here again."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.config import MethodConfig, RunConfig
from hftransfer.errors import UserError
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    from torch import nn

    from hftransfer.answers.base import Answer
    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.modeling.loading import Loaded
    from hftransfer.tasks.base import Task

# Names that people use for one peft method with some of its options set
ALIASES: dict[str, dict[str, Any]] = {
    "dora": {"peft_type": "lora", "use_dora": True},
    "rslora": {"peft_type": "lora", "use_rslora": True},
    "pissa": {"peft_type": "lora", "init_lora_weights": "pissa"},
    "olora": {"peft_type": "lora", "init_lora_weights": "olora"},
    "qlora": {"peft_type": "lora"},  # and the base in 4 bits, see `loading`
}
INIT_HEAD = "init_head"  # ours, not peft's: what the head starts from, random or a probe
NEGATIVES = "negatives"  # ours as well: wrong entries of a catalogue, see `frozen.hard_negatives`
NO_GRADIENT = "support_avx512bf16_for_cpu"  # of a 4-bit layer: whether it may take kernels that have none
CHANGES_BASE = ("pissa", "olora")  # initialisations that take their part out of the base weights


class Peft(Method):
    """Small trained parts beside frozen weights, merged into them at the end."""

    about = "train small added parts (LoRA and its kin), then merge them into the weights"
    learning_rate = 5e-4

    def try_options(self, config: RunConfig, task: Task, threads: int) -> None:
        """Ask TrainingArguments, Trainer and the method's own class."""
        from hftransfer.fitting import arguments

        arguments.rehearse(config, task, self.learning_rate, threads)
        kind, options = _asked_of_peft(config.method)
        _made(config.method, kind, {"target_modules": "all-linear", **options})

    def gave_way(self, setup: Setup) -> list[str]:
        """Return what of Trainer's options was set to match the user's."""
        from hftransfer.fitting import arguments

        return arguments.gave_way(setup, self.learning_rate)

    def loading(self, config: MethodConfig) -> Mapping[str, Any]:
        """Ask for 4-bit weights with qlora (Dettmers et al. 2023)."""
        if config.name != "qlora":
            return {}
        import importlib.util

        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError(
                "method.name=qlora needs the package bitsandbytes", "it is not installed",
                "Run: pip install 'hftransfer-learning[quantized]'; or use method.name=lora.",
            )  # fmt: skip
        import torch
        from transformers import BitsAndBytesConfig

        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
        }  # fmt: skip

    def load(self, config: RunConfig, task: Task, answer: Answer[Any], processor: Any) -> Loaded:
        """Load the model; of 4-bit weights on a processor, with kernels that have a gradient."""
        loaded = super().load(config, task, answer, processor)
        for module in loaded.model.modules():
            if hasattr(
                module, NO_GRADIENT
            ):  # bitsandbytes packs weights anew when they answer, and trains wrongly then
                setattr(module, NO_GRADIENT, False)
        return loaded

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Put the adapters in; freshly made modules train whole and stay out of the targets."""
        import peft

        model = loaded.model
        if config.name == "qlora":
            # whether activations are computed again is for train.gradient_checkpointing to say, as with every method
            model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        # by this name peft would look the base's vocabulary up on the Hub at every checkpoint, in its branch main
        model.name_or_path = ""
        settings = peft_config(config, loaded.fresh, model)
        _let_ask_for_embeddings(model)
        tied = _is_tied(model)
        try:
            wrapped = peft.get_peft_model(model, settings)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise _explained(config, model, error) from error
        _require_rank(wrapped)
        if tied:
            _require_untouched_embeddings(config, wrapped)
        _require_mergeable(config, wrapped)
        return wrapped

    def require(self, setup: Setup, loaded: Loaded) -> None:
        """Refuse to begin with a probe where there is none."""
        if setup.config.method.options.get(INIT_HEAD) == "probe" and setup.answer.linear is None:
            raise UserError(
                "method.init_head=probe needs a task whose model gets a new head",
                f"this one answers with {setup.answer.called}", "Drop it.",
            )  # fmt: skip

    def rehearsed(self, setup: Setup, loaded: Loaded, model: Any) -> Any | None:
        """Merge the adapters as they start; 4-bit weights are merged into the whole ones at the end alone."""
        return None if setup.config.method.name == "qlora" else merged(model)

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Train the adapters with Trainer, keep them beside, and merge them."""
        from hftransfer.fitting import trainer
        from hftransfer.frozen import cached_encoder
        from hftransfer.methods import probe

        config = setup.config.method
        self.require(setup, loaded)
        if config.options.get(INIT_HEAD) == "probe":
            probe.start_head(setup, loaded)
        model = self.apply(loaded, config)
        initial = _save_initial(model, setup) if _changes_base(model) else None
        with cached_encoder.computed_once(setup, model) as (shortened, seconds):  # where adapters are behind it alone
            fitted = trainer.descend(shortened, model, self.learning_rate)
        return self.conclude(setup, dataclasses.replace(fitted, train_seconds=fitted.train_seconds + seconds), initial)

    def conclude(self, setup: Setup, fitted: Fitted, initial: Path | None = None) -> Fitted:
        """Keep the trained adapters beside the model, and merge them; `initial`: as they were before training."""
        from hftransfer.fitting.processes import is_main_process, wait_for_everyone

        folder = setup.run.folder / "adapter"
        if is_main_process():
            options = {"path_initial_model_for_weight_conversion": str(initial)} if initial else {}
            fitted.model.save_pretrained(folder, **options)
        wait_for_everyone()
        base = fitted.model
        if (
            setup.config.method.name == "qlora"
        ):  # merging into 4-bit weights would round them again: merge into the whole ones
            from peft import PeftModel

            base = PeftModel.from_pretrained(setup.reload(), folder)
        return dataclasses.replace(fitted, model=merged(base), adapter=folder)


def _let_ask_for_embeddings(model: Any) -> None:
    """Have a model that embeds nothing (a detector) say so: peft asks those that tie weights, and they raise."""
    try:
        model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        from torch import nn

        nothing = nn.Module()
        vars(model)["get_input_embeddings"] = lambda: nothing


def peft_config(config: MethodConfig, fresh: tuple[str, ...], model: nn.Module) -> Any:
    """Build the peft config: the user's options, and defaults for the fields that this config class has.

    Without `modules_to_save` a random head would be adapted, then neither trained nor saved (peft #577, #876, #2027).
    """
    from hftransfer.modeling.parts import head_modules

    kind, options = _asked_of_peft(config)
    fields = {field.name for field in dataclasses.fields(kind)}
    if not {"target_modules", "modules_to_save"} <= fields:
        raise UserError(
            f"method.name={config.name} must adapt weights and train a new head, so that the result is a plain model",
            "its options have no target_modules, or no modules_to_save", "Use lora, dora, ia3 or another method.",
        )  # fmt: skip
    heads = head_modules(model)
    holders = [name for head in heads for name in _holders(model.get_submodule(head), head)]
    trained_whole = list(dict.fromkeys([*holders, *(name for name in fresh if name not in heads)]))
    defaults: dict[str, Any] = {"target_modules": "all-linear", "modules_to_save": trained_whole}
    if trained_whole:  # a head that is a module of its own has linear layers
        inside = "|".join(re.escape(name) for name in trained_whole)
        defaults["exclude_modules"] = rf"(.*\.)?({inside})(\..*)?"
    else:
        del defaults["modules_to_save"]
    if "lm_head" in trained_whole:
        # by "all-linear" peft counts a layer of that name among its targets, and asks for embeddings beside it
        defaults["target_modules"] = [
            name for name in _linear_layers(model) if not re.fullmatch(defaults["exclude_modules"], name)
        ]
    if config.name == "ln_tuning":  # its layers are not linear, and peft knows their names in a dozen models alone
        defaults["target_modules"] = [
            name for name, module in model.named_modules() if type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
        ]
    if "feedforward_modules" in fields and "target_modules" not in options:
        # IA3 scales the inputs of feed-forward modules and the outputs of the others; outputs alone always works
        defaults["feedforward_modules"] = []
    if "exclude_modules" in options and trained_whole:  # the user's come on top: the head stays out whatever they are
        asked = options["exclude_modules"]
        asked = asked if isinstance(asked, str) else "|".join(rf"(.*\.)?{re.escape(name)}" for name in asked)
        options["exclude_modules"] = f"({asked})|{defaults['exclude_modules']}"
    return _made(config, kind, {k: v for k, v in defaults.items() if k in fields} | options)


def _asked_of_peft(config: MethodConfig) -> tuple[Any, dict[str, Any]]:
    """Return the class of a method's options in peft, and those that its name and the user set."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    alias = ALIASES.get(config.name, {})
    options = {**{k: v for k, v in alias.items() if k != "peft_type"}, **config.options}
    for own in (INIT_HEAD, NEGATIVES):
        options.pop(own, None)
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(str(alias.get("peft_type", config.name)).upper())], options


def _made(config: MethodConfig, kind: Any, options: Mapping[str, Any]) -> Any:
    try:
        return kind(**options)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ImportError, OSError) as error:
        raise UserError(
            f"method: options that {config.name} takes are needed", _short(error), "Mend method.*"
        ) from error


def merged(model: Any) -> Any:
    """Merge the adapters into the weights and return the plain model."""
    from peft.utils import ModulesToSaveWrapper

    plain = model.merge_and_unload()
    for name, module in list(plain.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # LN tuning leaves them, and the head would be saved untrained
            plain.set_submodule(name, module.modules_to_save["default"])
    return plain


def _holders(module: nn.Module, name: str) -> list[str]:
    """Return the highest modules that hold parameters themselves: peft cannot unwrap a head made of several layers."""
    if any(True for _ in module.parameters(recurse=False)):
        return [name]
    return [found for child, inner in module.named_children() for found in _holders(inner, f"{name}.{child}")]


def _explained(config: MethodConfig, model: nn.Module, error: Exception) -> UserError:
    text = _short(error)
    if (
        "Target modules" in text
        or "No `target_modules`" in text
        or "not supported" in text
        or "target_modules" in text
    ):
        if "No modules were targeted" in text:  # peft blames the exclusion of the head, which nobody asked for
            text = f"it has no module {config.options.get('target_modules', 'that is linear')}"
        has = ", ".join(_linear_names(model))
        return UserError(
            f"method.name={config.name} needs modules it can adapt",
            f"{type(model).__name__}: {text}",
            f"Name some with method.target_modules=[...]{f' ({has})' if has else ''}, or use method.name=full.",
        )
    return UserError(f"method: options that {config.name} takes are needed", text, "Mend method.*")


def _linear_layers(model: nn.Module) -> list[str]:
    """Return the whole names of all linear layers."""
    from torch.nn import Linear

    return [name for name, module in model.named_modules() if isinstance(module, Linear)]


def _linear_names(model: nn.Module) -> list[str]:
    """Return how the linear layers of the backbone are called, as target_modules takes it."""
    from hftransfer.modeling.parts import head_modules

    heads = head_modules(model)
    return sorted({name.rpartition(".")[2] for name in _linear_layers(model) if name.partition(".")[0] not in heads})[
        :12
    ]


def _require_rank(model: nn.Module) -> None:
    """Refuse a rank above that of the layer it is added to: the extra rows cost, and can add nothing."""
    from peft.tuners.adalora.layer import AdaLoraLayer
    from peft.tuners.lora import LoraLayer

    layers: list[tuple[str, Any]] = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in layers:
        if isinstance(layer, AdaLoraLayer):
            continue  # it prunes its ranks by itself
        for adapter, down in layer.lora_A.items():
            # the rank asked for: PiSSA's matrices are cut to what the layer has, and could not be loaded again
            rank = layer.r[adapter]
            widest = min(down.weight[0].numel(), len(layer.lora_B[adapter].weight))  # a convolution's kernel counts in
            if rank > widest:
                raise UserError(
                    f"method.r must be at most {widest}, the smaller width of {name}", f"it is {rank}",
                    f"Set method.r={widest} or less, or a lower rank for such layers alone in method.rank_pattern.",
                )  # fmt: skip


def _is_tied(model: nn.Module) -> bool:
    """Tell whether a model's last layer is its embeddings once more."""
    last: Any = model.get_output_embeddings()  # type: ignore[operator]
    if last is None:
        return False
    try:
        first: Any = model.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # what hears and answers place by place has none
        return False
    return last.weight is getattr(first, "weight", None)  # or convolutions, a module of several


def _require_untouched_embeddings(config: MethodConfig, model: Any) -> None:
    """Refuse adapters on weights that stand in two places: merged, both would change, where one was trained.

    Single tokens may be trained, and the whole embeddings where peft is told to keep them tied.
    """
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    inner = model.get_base_model()
    kept_tied = model.peft_config["default"].to_dict().get("ensure_weight_tying")
    for module in (inner.get_input_embeddings(), inner.get_output_embeddings()):
        adapted = isinstance(module, BaseTunerLayer) and not isinstance(module, TrainableTokensLayer)
        if adapted or (isinstance(module, ModulesToSaveWrapper) and not kept_tied):
            names = [name for name, one in inner.named_modules() if one is module]
            raise UserError(
                f"method.name={config.name} must leave {names[0]} alone, or keep it tied",
                "this model has the same weights as embeddings and as last layer: merged, it would not be what was "
                "trained",
                "Drop it; to train new tokens set method.trainable_token_indices={embed_tokens: [NUMBERS]}; to train "
                "all of them method.modules_to_save=[embed_tokens] and method.ensure_weight_tying=true.",
            )  # fmt: skip


def _require_mergeable(config: MethodConfig, model: nn.Module) -> None:
    """Merge a copy of one adapted layer now: finding out after training that it cannot would lose the training."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers or config.name == "qlora":
        return
    smallest = min(layers, key=lambda layer: sum(p.numel() for p in layer.parameters()))
    try:
        copy.deepcopy(smallest).merge()
    except (NotImplementedError, AttributeError, ValueError) as error:
        raise UserError(
            f"method.name={config.name} must merge into the weights, so that the result is a plain model",
            f"peft cannot merge it ({_short(error) or type(error).__name__})",
            "Use lora, dora, ia3 or another method that merges.",
        ) from error


def _changes_base(model: Any) -> bool:
    init = model.peft_config["default"].to_dict().get("init_lora_weights")
    return isinstance(init, str) and init.startswith(CHANGES_BASE)


def _save_initial(model: Any, setup: Setup) -> Path:
    """Save the adapters as they start: with them, what was learned can be written against the untouched base."""
    from hftransfer.fitting.processes import is_main_process, wait_for_everyone

    folder: Path = setup.run.checkpoints / "initial_adapter"
    if is_main_process() and not folder.exists():
        settings = model.peft_config["default"]
        init, settings.init_lora_weights = settings.init_lora_weights, True
        model.save_pretrained(folder)
        settings.init_lora_weights = init
    wait_for_everyone()
    return folder


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


METHOD = Peft()
