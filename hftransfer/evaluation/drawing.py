"""What every picture is drawn with: colours, sheets, axes, names cut short, and how one is saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, FAINT = "#24303f", "#7a8594", "#e3e7ec"
BLUE, AMBER, ROSE = "#2f6f9f", "#d9a441", "#c8636b"
DPI = 150
LONGEST = 22  # characters of a label that are shown


def figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # never pyplot: its global state is not safe beside other threads
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)


def blues(start: float = 0.0) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    stops = LinearSegmentedColormap.from_list("calm", ["#f4f6f8", "#a9c7db", BLUE, "#173a59"])
    return LinearSegmentedColormap.from_list("calm_part", stops(np.linspace(start, 1, 64)))


def quiet(axes: Axes, grid: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.grid(axis=grid, color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def short(name: str) -> str:
    words = " ".join(name.split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1].rstrip() + "…"


def save_image(path: Path, figure: Figure) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True, dpi=(DPI, DPI))  # a third of the bytes
    return path
