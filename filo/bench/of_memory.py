"""What is measured of the memory bank of the few-shot methods."""

import numpy as np
import torch

from filo.bench import plain_memory
from filo.bench.setting import Place, Ways, arrays
from filo.methods.memory import nearest

# patches of an image, their width, tokens of the large bank and of the small one; full: FADE at 896 pixels,
# a large set of references and four of them
SIZES = {"full": (3136, 640, 100_000, 12_544), "tiny": (324, 64, 4_000, 1_296)}


def memory(place: Place) -> Ways:
    """The patches of one image against a large bank."""
    return _ways(place, SIZES[place.size][2])


def memory_one(place: Place) -> Ways:
    """The same against four references."""
    return _ways(place, SIZES[place.size][3])


def _ways(place: Place, count: int) -> Ways:
    N, C = SIZES[place.size][:2]
    g = torch.Generator().manual_seed(2)
    query, bank = (torch.randn(rows, C, generator=g).to(place.device) for rows in (N, count))

    def ours() -> list[np.ndarray]:
        return arrays(nearest(query[None], bank)[0])

    return Ways(ours, lambda: arrays(plain_memory.nearest(query, bank)))
