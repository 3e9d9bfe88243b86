"""The Gaussian that the published AnomalyCLIP smooths its maps with: SciPy's, on the device."""

from functools import lru_cache

import torch
from torch import Tensor

TRUNCATE = 4.0  # sigmas, SciPy's default


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps (B, S, S) as `scipy.ndimage.gaussian_filter` does by default; sigma 0 leaves them alone.

    Weights reach to `int(4 sigma + 0.5)` pixels; beyond an edge the map is mirrored, edge pixels repeated.
    """
    if sigma == 0:
        return maps
    weights = _weights(maps.shape[-1], sigma).to(maps)
    return weights @ maps @ weights.T


@lru_cache(maxsize=8)
def _weights(side: int, sigma: float) -> Tensor:
    """The filter along one axis as a matrix (S, S), what lies beyond an edge folded back."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel /= kernel.sum()
    rows = torch.arange(side)[:, None]
    mirrored = (rows + offsets) % (2 * side)  # 0 .. S - 1 and back
    columns = torch.minimum(mirrored, 2 * side - 1 - mirrored)
    weights = torch.zeros(side, side, dtype=torch.float64)
    return weights.scatter_add_(1, columns, kernel.expand(side, -1))
