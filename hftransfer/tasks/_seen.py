"""What tasks that see have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def conditions(said: Mapping[str, Any]) -> list[str]:
    """Say what transformers' own code would make of a picture otherwise than training did."""
    found = []
    if said.get("depth"):
        low, high = said["depth"]
        scale = f"{low:g} to {high:g} is 0 to 255"
        found.append(f"A picture that holds other numbers than 8 bits a colour must be scaled first: {scale}.")
    if said.get("window") is not None:
        found.append("`pipeline()` reads no DICOM file: `Predictor` does, by the same rule as in training.")
    if said.get("window") == "own":
        found.append("What is shown of a DICOM file is what lies in the window that the file names.")
    if said.get("background"):
        found.append(f"A picture with transparent parts must be put on {said['background']} first.")
    return found
