"""The plain way to distances from a memory bank: all of them in one matrix."""

from torch import Tensor
from torch.nn import functional as F


def nearest(query: Tensor, bank: Tensor) -> Tensor:
    """As `filo.methods.memory.nearest` of tokens (N, C) and the nearest in a bank (M, C): (N,)."""
    distances = (1 - F.normalize(query, dim=-1) @ F.normalize(bank, dim=-1).T) / 2  # (N, M)
    return distances.kthvalue(1, dim=1).values
