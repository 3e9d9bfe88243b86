"""How far patch tokens are from those of normal images: the memory bank of all few-shot methods.

Distances are (1 - cos) / 2, from 0 to 1. They are exact; the bank is gone through in chunks, so that the
matrix of all distances is never in memory.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from filo.errors import InputError

BUDGET = 256 << 20  # bytes that the distances of one chunk may take
PROJECTED = 128  # dimensions in which a coreset is chosen, as in PatchCore


def nearest(
    query: Tensor, bank: Tensor | None, k: int = 1, with_own: bool = False, budget: int = BUDGET
) -> Tensor:
    """Give each token's distance to its k-th nearest one in the bank: (B, N).

    With `with_own` the tokens of the query's own image stand in the bank as well, for each image its own; the
    nearest one is then the token itself, so that k is usually 2.

    Shape:
        query: (B, N, C), not necessarily normalised
        bank: (M, C), or None for an empty one

    Raises:
        InputError: the bank has fewer than k tokens, or tokens of another width.
    """
    B, N, C = query.shape
    size = (0 if bank is None else len(bank)) + (N if with_own else 0)
    if size < k:
        raise InputError(f"a memory of {size} tokens has no {k}-th nearest one: give references")
    if bank is not None and bank.shape[1] != C:
        raise InputError(f"tokens of width {C} cannot be compared with a memory of width {bank.shape[1]}")
    unit = F.normalize(query, dim=-1)
    known = unit.new_full((N, k), -2.0)  # cosines, the highest first; none is known yet
    best = torch.stack([_merge(each, each, known, budget) if with_own else known for each in unit])
    if bank is not None:
        step = _rows(len(bank), budget)
        pairs = zip(unit.flatten(0, 1).split(step), best.flatten(0, 1).split(step), strict=True)
        best = torch.cat([_merge(rows, bank, found, budget) for rows, found in pairs]).view(B, N, k)
    return ((1 - best[..., k - 1]) / 2).clamp_min(0)


def _merge(rows: Tensor, bank: Tensor, best: Tensor, budget: int) -> Tensor:
    """Give the k highest cosines (R, k) of rows (R, C) among those known and those with a bank (M, C)."""
    for part in bank.split(max(1, budget // (4 * max(1, len(rows))))):
        cosines = rows @ F.normalize(part, dim=-1).T
        top = cosines.topk(min(best.shape[1], len(part)), dim=1).values
        best = torch.cat([best, top], dim=1).topk(best.shape[1], dim=1).values
    return best


def _rows(size: int, budget: int) -> int:
    """How many query tokens go in one chunk: as many as leave room for a thousand of the bank."""
    return max(1, budget // (4 * min(max(1, size), 1024)))


def coreset(tokens: Tensor, share: float, seed: int = 0) -> Tensor:
    """Thin a memory (M, C) out to `ceil(share * M)` tokens that stand for all: greedy farthest points.

    The first is drawn by the seed; each next one is that which is farthest, in Euclidean distance of the
    L2-normalised tokens, from all chosen ones, the first of equals. Wider tokens are projected to 128 random
    dimensions for the choice, as PatchCore does (arXiv 2106.08265, section 3.2). They keep their order.

    Raises:
        InputError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise InputError(f"a coreset of the share {share}: wanted above 0 and at most 1")
    count = -int(-share * len(tokens) // 1)
    if count == len(tokens):
        return tokens
    g = torch.Generator().manual_seed(seed)
    points = F.normalize(tokens, dim=-1)
    if points.shape[1] > PROJECTED:
        directions = torch.randn(points.shape[1], PROJECTED, generator=g) / PROJECTED**0.5
        points = points @ directions.to(points)
    at = int(torch.randint(len(points), (), generator=g))
    far, chosen = points.new_full((len(points),), float("inf")), []
    for _ in range(count):
        chosen.append(at)
        far = torch.minimum(far, (points - points[at]).square().sum(1))
        far[at] = -1.0  # not again, even among equals
        at = int(far.argmax())
    return tokens[sorted(chosen)]
