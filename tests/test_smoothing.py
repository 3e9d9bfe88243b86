"""The Gaussian of the final map is SciPy's."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from filo.smoothing import smooth


@pytest.mark.parametrize("sigma", [0.6, 1.0, 4.0])
@pytest.mark.parametrize("side", [1, 5, 16, 40])  # radius 16 at sigma 4: small maps are mirrored repeatedly
def test_smoothing_is_scipys(side, sigma):
    maps = torch.rand(3, side, side)
    wanted = torch.stack([torch.from_numpy(gaussian_filter(each.numpy(), sigma)) for each in maps])
    torch.testing.assert_close(smooth(maps, sigma), wanted, atol=1e-6, rtol=0)


def test_a_sigma_of_zero_leaves_a_map_alone():
    maps = torch.rand(2, 7, 7)
    assert smooth(maps, 0) is maps


def test_a_flat_map_stays_flat_up_to_its_edges():
    maps = torch.full((1, 20, 20), 0.3)
    torch.testing.assert_close(smooth(maps, 4.0), maps, atol=1e-7, rtol=0)


def test_a_gradient_comes_through():
    maps = torch.rand(1, 9, 9, requires_grad=True)
    smooth(maps, 1.0).sum().backward()
    torch.testing.assert_close(maps.grad, torch.ones(1, 9, 9))
