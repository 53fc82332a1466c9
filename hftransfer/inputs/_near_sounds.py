"""Recordings that are nearly the same: by how loud each pitch is over the time, whatever their format and loudness."""

from __future__ import annotations

import numpy as np

from hftransfer.inputs._near_pictures import pairs_within
from hftransfer.inputs._sounds import Sound, resampled

RATE = 8000  # samples a second of what is compared: what the poorest recordings have
TIMES, PITCHES = 16, 12  # stretches of the time, and bands of pitch
LOWEST, HIGHEST = 100.0, 3400.0  # hertz
FRAME = 256  # samples
DEEPEST = 3.0  # of the loudest place's logarithm: what is softer is silence
LENGTH = 100.0  # dB that a doubled length counts as, in one of the WIDTH numbers
APART = 1.0  # root mean squared difference, in dB: an MP3's loss is less
CLEAR = 4.0  # times as much as copies differ others
SAMPLED = 256  # recordings that tell how much those of the data differ
WIDTH = TIMES * PITCHES + 1
MOST = 20_000  # recordings


def sketch(sound: Sound) -> np.ndarray:
    """Return (WIDTH,) float32 in dB: the loudness of each pitch in each stretch of what is heard, and the length."""
    samples = resampled(sound.samples, sound.rate, RATE)
    if len(samples) < FRAME:
        samples = np.pad(samples, (0, FRAME - len(samples)))
    count = 1 + (len(samples) - FRAME) // (FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[:: FRAME // 2][:count]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32), axis=1)) ** 2
    heard = np.flatnonzero(power.sum(axis=1) > 1e-4 * power.sum(axis=1).max(initial=0.0))
    if not len(heard):
        return np.zeros(WIDTH, np.float32)
    power = power[heard[0] : heard[-1] + 1]
    edges = np.geomspace(LOWEST, HIGHEST, PITCHES + 1) * FRAME / RATE
    bins = np.searchsorted(edges, np.arange(power.shape[1])) - 1
    bands = np.stack([power[:, bins == band].sum(axis=1) for band in range(PITCHES)], axis=1)
    ends = np.linspace(0, len(bands), TIMES + 1)
    starts = ends[:-1].astype(np.int64)
    parts = [bands[first : max(first + 1, int(end))].mean(axis=0) for first, end in zip(starts, ends[1:], strict=True)]
    loud = np.log10(np.maximum(np.stack(parts), 1e-30))
    loud = 10 * np.maximum(loud, loud.max() - DEEPEST)
    return np.append(loud - loud.mean(), LENGTH * np.log2(len(power))).astype(np.float32)


def pairs(sketches: np.ndarray) -> np.ndarray | None:
    """Return pairs (m, 2) of near copies from sketches (n, WIDTH); None where there are too many to look.

    They may differ by APART at most, and by one CLEAR-th of what a recording of this data differs from its nearest.
    """
    if len(sketches) > MOST:
        return None
    telling = np.flatnonzero(sketches[:, :-1].std(axis=1) > APART)
    values = np.asarray(sketches[telling], np.float64)
    if len(values) < 2:
        return np.empty((0, 2), np.int64)
    return np.asarray(telling[pairs_within(values, _limit(values) ** 2 * values.shape[1])])


def _limit(values: np.ndarray) -> float:
    some = np.linspace(0, len(values) - 1, min(len(values), SAMPLED)).astype(np.int64)
    nearest = []
    for place in some:
        distance = np.sqrt(np.mean((values - values[place]) ** 2, axis=1))
        others = distance[distance > APART]
        nearest.append(others.min() if len(others) else np.inf)
    return min(APART, float(np.median(nearest)) / CLEAR)
