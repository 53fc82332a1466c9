"""What tasks have in common whose models hear: how recordings become what such a model is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.config import DataConfig
from hftransfer.processors import ear_of, hear, mixes_lengths, window_of
from hftransfer.tasks.base import Preparation, Task


class Heard(Task):
    """A task over recordings, in a role called `audio`."""

    carried: ClassVar[tuple[str, ...]] = ("max_seconds",)

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Resample, and compute what the model is shown."""
        rate = ear_of(processor).sampling_rate
        return hear(processor, [sound.at(rate) for sound in rows["audio"]])

    def window(self, processor: Any, config: DataConfig) -> float:
        """Take the processor's own limit, or 30 seconds."""
        return window_of(processor, config.max_seconds)

    def mixes_lengths(self, processor: Any) -> bool:
        """Look whether the model takes a mask."""
        return mixes_lengths(processor)
