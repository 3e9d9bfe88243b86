"""How a weights file gets by with a few rows of the token table, the largest part of a small CLIP.

It holds the rows of the tokens it knows, their numbers, and one row for all the others.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from filo.clip.build import VOCABULARY
from filo.errors import InputError

TABLE = "token_embedding.weight"
ROWS, NUMBERS, OTHER = "token_embedding.rows", "token_embedding.numbers", "token_embedding.other"


def cut_table(rows: Tensor, numbers: Sequence[int], other: Tensor) -> dict[str, Tensor]:
    """Give the tensors that stand in a file for the whole table.

    Shape:
        rows: (K, T), of the tokens `numbers`
        other: (T,), the row of every other token
    """
    return {ROWS: rows.contiguous(), NUMBERS: torch.tensor(numbers, dtype=torch.int32), OTHER: other.clone()}


def fill_table(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the whole table in the place of what `cut_table` gave; weights without that are left alone.

    Raises:
        InputError: rows and numbers do not belong together.
    """
    full = dict(weights)
    if ROWS not in full:
        return full
    missing = [name for name in (NUMBERS, OTHER) if name not in full]
    if missing:
        raise InputError(f"the weights hold {ROWS} but no {missing[0]}: is the file complete?")
    rows, numbers, other = (full.pop(name) for name in (ROWS, NUMBERS, OTHER))
    fits = rows.ndim == 2 and numbers.shape == rows.shape[:1] and other.shape == rows.shape[1:]
    if not fits or not ((numbers >= 0) & (numbers < VOCABULARY)).all():
        raise InputError(
            f"the cut token table does not fit together: {tuple(rows.shape)} rows, {tuple(numbers.shape)} "
            f"numbers, wanted below {VOCABULARY}, {tuple(other.shape)} for the others"
        )
    full[TABLE] = other.repeat(VOCABULARY, 1).index_copy(0, numbers.long(), rows)
    return full
