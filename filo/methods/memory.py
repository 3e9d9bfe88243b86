"""How far patch tokens are from those of normal images: the memory bank of all few-shot methods.

Distances are (1 - cos) / 2, from 0 to 1, in float32. They are exact; the bank is gone through in chunks, so
that neither the matrix of all distances nor a second copy of the bank is ever in memory.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from filo.errors import InputError

BUDGET = 256 << 20  # bytes that one chunk may take: of the bank, normalised, and of its distances
PROJECTED = 128  # dimensions in which a coreset is chosen, as in PatchCore
EXACT = "donot_use_mm_for_euclid_dist"  # the sum of squared differences; by products it would be rounded


def nearest(
    query: Tensor, bank: Tensor | None, k: int = 1, with_own: bool = False, budget: int = BUDGET
) -> Tensor:
    """Give each token's distance to its k-th nearest one in the bank: (B, N).

    With `with_own` the tokens of the query's own image stand in the bank as well, for each image its own; the
    nearest one is then the token itself, so that k is usually 2.

    Shape:
        query: (B, N, C), not necessarily normalised
        bank: (M, C), or None for an empty one; from another device it is brought chunk by chunk

    Raises:
        InputError: the bank has fewer than k tokens, or tokens of another width.
    """
    B, N, C = query.shape
    size = (0 if bank is None else len(bank)) + (N if with_own else 0)
    if size < k:
        raise InputError(f"a memory of {size} tokens has no {k}-th nearest one: give references")
    if bank is not None and bank.shape[1] != C:
        raise InputError(f"tokens of width {C} cannot be compared with a memory of width {bank.shape[1]}")
    unit = F.normalize(query.float(), dim=-1)
    known = unit.new_full((N, k), -2.0)  # cosines, the highest first; none is known yet
    best = torch.stack([_merge(each, each, known, budget) if with_own else known for each in unit])
    if bank is not None:
        step = _rows(len(bank), budget)
        pairs = zip(unit.flatten(0, 1).split(step), best.flatten(0, 1).split(step), strict=True)
        best = torch.cat([_merge(rows, bank, found, budget) for rows, found in pairs]).view(B, N, k)
    return ((1 - best[..., k - 1]) / 2).clamp_min(0)


def leave_one_out(patches: Sequence[Sequence[Tensor]], with_own: bool = False) -> list[list[Tensor]]:
    """Compare each reference with the others, tap by tap or size by size, a single one with itself.

    With `with_own` each is compared with itself as well, as a query image then is.

    Shape:
        patches: by reference, then by tap or size, (1, N, C)
        output: the same, (1, N)
    """
    found = []
    for i, own in enumerate(patches):
        others = [each for j, each in enumerate(patches) if j != i]
        banks = [torch.cat([each[n][0] for each in others]) if others else None for n in range(len(own))]
        itself = with_own or not others
        pairs = zip(own, banks, strict=True)
        found.append([nearest(each, bank, 2 if itself else 1, with_own=itself) for each, bank in pairs])
    return found


def _merge(rows: Tensor, bank: Tensor, best: Tensor, budget: int) -> Tensor:
    """Give the k highest cosines (R, k) of rows (R, C) among those known and those with a bank (M, C)."""
    for part in bank.split(max(1, budget // (4 * sum(rows.shape)))):
        cosines = rows @ F.normalize(part.to(rows), dim=-1).T
        top = cosines.topk(min(best.shape[1], len(part)), dim=1).values
        best = torch.cat([best, top], dim=1).topk(best.shape[1], dim=1).values
    return best


def _rows(size: int, budget: int) -> int:
    """How many query tokens go in one chunk: as many as leave room for a thousand of the bank."""
    return max(1, budget // (4 * min(max(1, size), 1024)))


def coreset(tokens: Tensor, share: float, seed: int = 0, dimensions: int | None = PROJECTED) -> Tensor:
    """Thin a memory (M, C) out to `ceil(share * M)` tokens that stand for all: greedy farthest points.

    Distances are Euclidean ones between L2-normalised tokens. The first token is drawn by the seed; each next
    one is that whose distance to the nearest chosen one is largest, the first of equals. Tokens wider than
    `dimensions` are projected to as many random ones for the choice, as PatchCore does (arXiv 2106.08265,
    section 3.2); None for never. What is chosen stays as it is, in its order.

    Raises:
        InputError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise InputError(f"a coreset of the share {share}: wanted above 0 and at most 1")
    count = math.ceil(Fraction(str(share)) * len(tokens))  # 0.07 of 100 would be 8 in floating point
    if count == len(tokens):
        return tokens
    g = torch.Generator().manual_seed(seed)
    at = int(torch.randint(len(tokens), (), generator=g))
    points = _points(tokens, dimensions, g)
    far, chosen = points.new_full((len(points),), float("inf")), []
    for _ in range(count):
        chosen.append(at)
        far = torch.minimum(far, torch.cdist(points, points[at : at + 1], compute_mode=EXACT)[:, 0])
        far[at] = -1.0  # not again, even among equals
        at = int(far.argmax())
    return tokens[sorted(chosen)]


def _points(tokens: Tensor, dimensions: int | None, g: torch.Generator) -> Tensor:
    """What a coreset is chosen by: unit tokens, projected where they are too wide."""
    if dimensions is None or tokens.shape[1] <= dimensions:
        return F.normalize(tokens.float(), dim=-1)
    directions = torch.randn(tokens.shape[1], dimensions, generator=g).to(tokens.device) / dimensions**0.5
    parts = tokens.split(max(1, BUDGET // (4 * tokens.shape[1])))
    return torch.cat([F.normalize(part.float(), dim=-1) @ directions for part in parts])
