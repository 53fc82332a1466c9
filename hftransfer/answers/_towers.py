"""What a probe trains of a model that compares: the linear layers behind two towers, on what the towers make once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hftransfer.answers._projected import Projected
from hftransfer.errors import UserError


class Towers(Projected):
    """Answers of models with a tower for pictures and one for texts; how they read texts stands with the answer."""

    longest: int
    fill: int
    fixed: bool
    masked: bool

    projects = True

    @property
    def width(self) -> int:
        """What texts are filled up to, 0: to the longest of a batch."""
        return self.longest if self.fixed else 0

    def last_layers(self, model: Any) -> tuple[str, ...]:
        from hftransfer.answers import _beside

        layers = [layer for side in _beside.LAST if (layer := _beside.last_of(model, side)) is not None]
        if not layers:
            raise UserError(
                "a model whose towers end in linear layers is needed", f"{type(model).__name__} has none",
                "Use method.name=full or lora with this model.",
            )  # fmt: skip
        named = [name for name, module in model.named_modules() if any(module is layer for layer in layers)]
        own = [_beside.scale_of(model), _beside.bias_of(model)]
        return (*named, *(name for name, value in model.named_parameters() if any(value is one for one in own)))

    def before_them(self, model: Any, batch: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
        from hftransfer.answers import _beside

        shown = _beside.texts_of(dict(batch), self.fill, self.width, self.masked)
        seen = _beside.before(model, "seen", lambda: _beside.pictures(model, batch)).cpu().numpy()
        said = _beside.before(model, "said", lambda: _beside.texts(model, shown)).cpu().numpy()
        ends = np.cumsum((batch["parts"] > 0).sum(dim=1).tolist())
        parts = np.split(said, ends[:-1])
        return [
            {"seen": seen[row : row + 1], "said": part, "numbers": np.asarray(batch["_numbers"][row], np.int64)}
            for row, part in enumerate(parts)
        ]

    def solved(
        self, model: Any, made: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        from hftransfer.answers import _beside, _canonical

        rows = {"seen": np.repeat(made["seen"], counts["said"], axis=0), "said": made["said"]}  # a row a caption
        names = {id(module): name for name, module in model.named_modules()}
        layers = {side: layer for side in _beside.LAST if (layer := _beside.last_of(model, side)) is not None}
        if len(layers) == 2:
            width = layers["seen"].out_features
            for about, seen, said in _canonical.both(rows["seen"], rows["said"], width):
                found: dict[str, np.ndarray] = {}
                for layer, weight in zip(layers.values(), (seen, said), strict=True):
                    found |= {f"{names[id(layer)]}.weight": weight}
                    found |= {} if layer.bias is None else {f"{names[id(layer)]}.bias": np.zeros(width)}
                yield f"canonical correlation, {about}", found
            return
        ((side, layer),) = layers.items()
        (other,) = (rows[one] for one in rows if one != side)
        for about, weight, bias in _canonical.one_side(rows[side], other):
            found = {f"{names[id(layer)]}.weight": weight}
            yield (
                f"ridge regression, {about}",
                found | ({} if layer.bias is None else {f"{names[id(layer)]}.bias": bias}),
            )

    def behind_them(self, model: Any, made: Mapping[str, Any], counts: Mapping[str, Any]) -> tuple[Any, Any]:
        import torch

        from hftransfer.answers import _beside

        seen = _beside.behind(model, "seen", made["seen"])
        said = _beside.behind(model, "said", made["said"])
        many = counts["said"]
        known = torch.arange(int(many.max()), device=many.device) < many[:, None]
        whole = said.new_zeros(*known.shape, said.shape[-1]).index_put((known,), said)
        numbers = many.new_full(known.shape, _beside.NONE).index_put((known,), made["numbers"])
        outputs = {"vectors": torch.cat([seen[:, None], whole], dim=1), "scale": _beside.scale_of(model).exp()}
        bias = _beside.bias_of(model)
        return {**outputs, **({} if bias is None else {"bias": bias}), "alone": True}, numbers
