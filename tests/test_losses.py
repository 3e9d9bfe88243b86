"""Focal and Dice losses, worked out by hand and against loops."""

import math

import numpy as np
import pytest
import torch

from filo.losses import dice_loss, focal_loss, squared_dice_loss

DICES = [dice_loss, squared_dice_loss]


def two_channels(abnormal):
    abnormal = torch.as_tensor(abnormal)
    return torch.stack([1 - abnormal, abnormal], dim=1)


def drawn(B=3, H=4, W=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(B, H, W, generator=g), torch.rand(B, H, W, generator=g) > 0.6


def slow_focal(abnormal, target, gamma=2.0):
    total = 0.0
    for p, t in zip(abnormal.flatten().tolist(), target.flatten().tolist(), strict=True):
        pair = [(1 - p, 1 - t), (p, t)]
        pt = sum(min(max(one_hot, 1e-5), 1 - 1e-5) * value for value, one_hot in pair) + 1e-5
        total -= (1 - pt) ** gamma * math.log(pt)
    return total / abnormal.numel()


def slow_dice(p, t):
    parts = []
    for one, truth in zip(p.double().numpy(), t.double().numpy(), strict=True):
        overlap = sum(a * b for a, b in zip(one.ravel(), truth.ravel(), strict=True))
        parts.append(1 - (2 * overlap + 1) / (one.sum() + truth.sum() + 1))
    return np.mean(parts)


def slow_squared_dice(p, t):
    parts = []
    for one, truth in zip(p.double().numpy(), t.double().numpy(), strict=True):
        overlap = sum(a * b for a, b in zip(one.ravel(), truth.ravel(), strict=True))
        parts.append(-overlap / (sum(one.ravel() ** 2) + sum(truth.ravel() ** 2)))
    return np.mean(parts)


def test_focal_loss_of_one_pixel_by_hand():
    # pt is 0.25 but for the smoothing: (1 - 0.25)^2 * ln 4
    loss = focal_loss(two_channels([[[0.25]]]), torch.ones(1, 1, 1))
    assert loss.item() == pytest.approx(0.5625 * math.log(4), rel=1e-4)
    # the same pixel, normal: (1 - 0.75)^2 * ln (4 / 3)
    loss = focal_loss(two_channels([[[0.25]]]), torch.zeros(1, 1, 1))
    assert loss.item() == pytest.approx(0.0625 * math.log(4 / 3), rel=1e-4)


def test_dice_loss_by_hand():
    p, t = torch.tensor([[0.5, 0.5, 1.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    assert dice_loss(p, t).item() == pytest.approx(1 - (2 * 1.5 + 1) / (2 + 2 + 1))
    assert squared_dice_loss(p, t).item() == pytest.approx(-1.5 / (1.5 + 2))


def test_perfect_maps_have_the_lowest_losses():
    _, t = drawn()
    assert dice_loss(t.float(), t).item() == pytest.approx(0, abs=1e-6)
    assert squared_dice_loss(t.float(), t).item() == pytest.approx(-0.5)
    assert focal_loss(two_channels(t.float()), t).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_to_find_and_all_to_find_stay_finite(value):
    right, wrong = torch.full((2, 3, 3), value), torch.full((2, 3, 3), 1 - value)
    for p in (right, wrong):
        assert focal_loss(two_channels(p), right).isfinite()
        assert dice_loss(p, right).isfinite() and squared_dice_loss(p, right).isfinite()
    assert squared_dice_loss(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_slow_loops(seed):
    p, t = drawn(seed=seed)
    assert focal_loss(two_channels(p), t).item() == pytest.approx(slow_focal(p, t), rel=1e-5)
    assert dice_loss(p, t).item() == pytest.approx(slow_dice(p, t), rel=1e-5)
    assert squared_dice_loss(p, t).item() == pytest.approx(slow_squared_dice(p, t), rel=1e-5)


def test_gamma_zero_is_cross_entropy():
    p, t = drawn()
    expected = torch.nn.functional.binary_cross_entropy(p.double(), t.double()).item()
    assert focal_loss(two_channels(p), t, gamma=0.0).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("loss", [focal_loss, *DICES])
def test_a_step_against_the_gradient_is_a_better_map(loss):
    p, t = drawn()
    p.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(two_channels(p) if loss is focal_loss else p, t), p)
    assert (gradient[t] < 0).all()  # a defect: more would be better
    if loss is not squared_dice_loss:  # eq. 8 is as flat or flatter where the truth is 0
        assert (gradient[~t] > 0).all()
    better = (p - 0.1 * gradient.sign()).clamp(0.001, 0.999).detach()
    before, after = (loss(two_channels(x) if loss is focal_loss else x, t) for x in (p, better))
    assert after < before


@pytest.mark.parametrize("loss", [focal_loss, *DICES])
def test_a_batch_costs_the_mean_of_its_images(loss):
    p, t = drawn()
    p = two_channels(p) if loss is focal_loss else p
    each = [loss(p[i : i + 1], t[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(p, t), torch.stack(each).mean())


@pytest.mark.parametrize("dice", DICES)
def test_dice_over_rows_is_the_mean_of_the_rows(dice):
    p, t = drawn(B=1)
    rows = torch.stack([dice(p[:, i], t[:, i]) for i in range(4)])
    torch.testing.assert_close(dice(p[0], t[0]), rows.mean())
    assert not torch.isclose(dice(p[0], t[0]), dice(p, t))


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 4, 5), (4, 5), (3, 1, 5)])
def test_a_target_of_another_shape_is_refused(shape):
    p, _ = drawn()
    for call in (dice_loss, squared_dice_loss, lambda a, b: focal_loss(two_channels(a), b)):
        with pytest.raises(ValueError, match="do not fit"):
            call(p, torch.zeros(shape))


def test_focal_loss_wants_two_channels():
    p, t = drawn()
    with pytest.raises(ValueError, match="do not fit"):
        focal_loss(p[:, None], t)
