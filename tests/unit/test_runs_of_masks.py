"""Masks as runs: they come back, have their box and area, and share what their pixels share."""

from __future__ import annotations

import numpy as np

from hftransfer.answers import _found_masks, _runs


def test_runs_are_their_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 12, 2)
        masks = [rng.random((height, width)) < share for share in (0, 0.1, 0.5, 0.9, 1)]
        runs = [_runs.of_mask(mask) for mask in masks]
        for mask, counts in zip(masks, runs, strict=True):
            assert np.array_equal(_runs.to_mask(counts, (width, height)), mask) and _runs.area(counts) == mask.sum()
            down, across = np.nonzero(mask)
            box = (
                (across.min(), down.min(), np.ptp(across) + 1, np.ptp(down) + 1) if len(down) else (0.0, 0.0, 0.0, 0.0)
            )
            assert _runs.box_of(counts, height) == box
        wanted = [[(one & other).sum() for other in masks[::-1]] for one in masks]
        assert np.array_equal(_runs.shared(runs, runs[::-1]), wanted)


def test_overlaps_are_of_pixels_and_of_a_crowd_the_share_inside() -> None:
    one, other = np.zeros((2, 10, 10), bool)
    one[:, :4], other[:, 2:] = True, True
    runs = [_runs.of_mask(mask) for mask in (one, other)]
    assert _runs.overlaps(runs[:1], runs, np.array([False, False])).tolist() == [[1.0, 20 / 100]]
    assert _runs.overlaps(runs[:1], runs[1:], np.array([True])).tolist() == [[0.5]]
    nothing = [_runs.of_mask(np.zeros((10, 10), bool))]
    assert _runs.overlaps(nothing, nothing, np.array([False])).tolist() == [[0.0]]
    assert _runs.shared([], runs).shape == (0, 2) and _runs.shared(runs, []).shape == (2, 0)


def test_a_box_is_filled_and_cut_to_its_picture() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        height, width = (int(side) for side in rng.integers(1, 12, 2))
        left, top, across, down = rng.uniform(-2, 12, 4)
        wanted = np.zeros((height, width), bool)
        edges = [max(0, round(edge)) for edge in (top, top + down, left, left + across)]
        wanted[edges[0] : edges[1], edges[2] : edges[3]] = True
        found = _runs.of_box((left, top, across, down), (width, height))
        assert found.sum() == width * height and np.array_equal(_runs.to_mask(found, (width, height)), wanted)


def test_a_row_is_kept_as_bytes() -> None:
    runs = [np.array([3, 4, 5], np.int32), np.array([12], np.int32)]
    table = np.arange(16.0).reshape(2, 8)
    held = _found_masks.unpacked(_found_masks.packed(table, runs))
    assert np.array_equal(held.table, table) and all(map(np.array_equal, held.runs, runs))
    nothing = _found_masks.unpacked(_found_masks.packed(np.zeros((0, 8)), []))
    assert nothing.table.shape == (0, 8) and nothing.runs == []
