"""Dropout on the CPU: the same law as torch's, masks that follow from torch's random state, layers put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hftransfer.fitting import dropout

SHAPE = (64, 300)


def dropped(p: float = 0.1, seed: int = 0, training: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    values = torch.ones(SHAPE, requires_grad=True)
    out = dropout.Stretched(p).train(training)(values)
    out.backward(torch.full(SHAPE, 2.0))
    assert values.grad is not None
    return out.detach(), values.grad


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_it_zeroes_that_share_scales_the_rest_and_its_gradient_likewise(p: float) -> None:
    out, gradient = dropped(p)
    count = out.numel()
    zero = int((out == 0).sum())
    assert abs(zero - p * count) < 5 * (p * (1 - p) * count) ** 0.5
    assert torch.allclose(out[out != 0], torch.tensor(1 / (1 - p)), rtol=1e-3)
    assert torch.equal(gradient, 2 * out)
    assert abs(float(out.mean()) - 1) < 5 * (p / (1 - p) / count) ** 0.5


def test_neighbours_rows_and_masks_are_independent() -> None:
    torch.manual_seed(1)
    one, other = (dropout.mask(torch.Size((1000, 400)), 0.5).double() * 2 - 1 for _ in range(2))
    for left, right in ((one, other), (one[:, 1:], one[:, :-1]), (one[1:], one[:-1]), (one[:, 4:], one[:, :-4])):
        assert abs(float((left * right).mean())) < 5 / left.numel() ** 0.5


def test_the_mask_follows_from_torchs_random_state() -> None:
    assert torch.equal(dropped(seed=3)[0], dropped(seed=3)[0])
    assert not torch.equal(dropped(seed=3)[0], dropped(seed=4)[0])
    state = torch.get_rng_state()
    first = dropout.mask(torch.Size(SHAPE), 0.1)
    assert not torch.equal(first, dropout.mask(torch.Size(SHAPE), 0.1))
    torch.set_rng_state(state)
    assert torch.equal(first, dropout.mask(torch.Size(SHAPE), 0.1))


def test_a_layer_that_is_computed_again_for_its_gradient_finds_its_mask() -> None:
    layer, values = dropout.Stretched(0.3), torch.randn(SHAPE, requires_grad=True)
    out = checkpoint(layer, values, use_reentrant=False)
    out.sum().backward()
    assert values.grad is not None and torch.equal(values.grad == 0, out == 0)


def test_it_does_nothing_where_nothing_is_dropped() -> None:
    assert torch.equal(dropped(training=False)[0], torch.ones(SHAPE))
    assert torch.equal(dropped(p=0.0)[0], torch.ones(SHAPE))
    assert torch.equal(dropped(p=1.0)[0], torch.zeros(SHAPE))
    assert torch.isfinite(dropped(p=0.999999)[0]).all()  # nearly all of it


def test_layers_are_put_back_and_keep_their_mode() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"drop": nn.Dropout(0.2)}), nn.Dropout(0.1, inplace=True))
    layer, names = model[1]["drop"], [name for name, _ in model.named_modules()]
    with dropout.stretched(model):
        assert isinstance(model[1]["drop"], dropout.Stretched) and model[1]["drop"].p == 0.2
        assert [name for name, _ in model.named_modules()] == names
        model.eval()
    assert model[1]["drop"] is layer and not layer.training and type(model[2]) is nn.Dropout
