"""The memory bank against a plain matrix of all distances, and the coreset against what it is defined as."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from filo.errors import InputError
from filo.methods.memory import coreset, nearest

QUERY = torch.randn(3, 50, 16, generator=torch.Generator().manual_seed(0))
BANK = torch.randn(333, 16, generator=torch.Generator().manual_seed(1))


def plain(query, bank, k, with_own):
    """All distances at once, sorted."""
    rows = []
    for image in query:
        tokens = torch.cat([bank, image]) if with_own else bank
        cosines = F.normalize(image, dim=-1) @ F.normalize(tokens, dim=-1).T
        rows.append(((1 - cosines) / 2).sort(1).values[:, k - 1])
    return torch.stack(rows)


@pytest.mark.parametrize("budget", [400, 5000, 256 << 20])  # some tokens, some rows, all at once
@pytest.mark.parametrize(("k", "with_own"), [(1, False), (2, True), (3, False), (5, True)])
def test_distances_are_those_of_the_whole_matrix(k, with_own, budget):
    found = nearest(QUERY, BANK, k, with_own, budget)
    torch.testing.assert_close(found, plain(QUERY, BANK, k, with_own), atol=1e-6, rtol=0)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor had that any operation made."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.count = max(self.count, made.numel())
        return made


@pytest.mark.parametrize("with_own", [False, True])
@pytest.mark.parametrize("width", [4, 256])
def test_no_step_takes_more_memory_than_it_may_whatever_the_size_of_the_bank(width, with_own):
    query, bank = torch.randn(2, 40, width), torch.randn(20_000, width)
    budget = 4 * query.numel() + 40_000
    with Largest() as largest:
        found = nearest(query, bank, 2, with_own, budget)
    assert 1000 < largest.count <= budget // 4
    torch.testing.assert_close(found, plain(query, bank, 2, with_own), atol=1e-6, rtol=0)


def test_tokens_in_half_precision_are_compared_in_float32():
    found = nearest(QUERY.half(), BANK.half())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, nearest(QUERY.half().float(), BANK.half().float()), atol=0, rtol=0)


def test_without_references_an_image_is_compared_with_itself():
    torch.testing.assert_close(
        nearest(QUERY, None, 2, with_own=True), plain(QUERY, BANK[:0], 2, True), atol=1e-6, rtol=0
    )


def test_a_batch_gives_what_its_images_give():
    whole = nearest(QUERY, BANK, 2, with_own=True)
    alone = torch.cat([nearest(image[None], BANK, 2, with_own=True) for image in QUERY])
    torch.testing.assert_close(whole, alone, atol=1e-6, rtol=0)


def test_distances_worked_out_by_hand():
    bank = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    query = torch.tensor([[[2.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]])
    wanted = [0.0, 0.5, (1 - math.sqrt(0.5)) / 2]
    assert nearest(query, bank)[0].tolist() == pytest.approx(wanted)
    assert nearest(query, bank, k=2)[0].tolist() == pytest.approx([0.5, 1.0, wanted[2]])


def test_the_order_of_the_memory_does_not_matter():
    order = torch.randperm(len(BANK), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(nearest(QUERY, BANK[order]), nearest(QUERY, BANK), atol=1e-6, rtol=0)


def test_a_memory_that_is_too_small_or_of_another_width_is_refused():
    with pytest.raises(InputError, match="no 2-th nearest one"):
        nearest(QUERY, BANK[:1], k=2)
    with pytest.raises(InputError, match="give references"):
        nearest(QUERY, None)
    with pytest.raises(InputError, match="width 16 cannot be compared with a memory of width 8"):
        nearest(QUERY, BANK[:, :8])


def greedy(points, count, first):
    """Farthest points as they are defined: every distance anew for every choice."""
    chosen = [first]
    while len(chosen) < count:
        far = torch.cdist(points, points[chosen]).min(1).values
        far[chosen] = -1
        chosen.append(int(far.argmax()))
    return sorted(chosen)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_coreset_is_the_greedy_choice_of_farthest_points(share):
    found = coreset(BANK, share)
    points = F.normalize(BANK, dim=-1)
    first = int(torch.randint(len(BANK), (), generator=torch.Generator().manual_seed(0)))
    assert torch.equal(found, BANK[greedy(points, math.ceil(share * len(BANK)), first)])


def test_a_coreset_of_all_is_the_memory_itself_and_equal_tokens_are_no_trouble():
    assert coreset(BANK, 1.0) is BANK
    same = torch.ones(10, 4)
    assert coreset(same, 0.5).shape == (5, 4)


def test_a_coreset_of_wide_tokens_is_chosen_in_fewer_dimensions_and_stays_wide():
    wide = torch.randn(200, 300, generator=torch.Generator().manual_seed(3))
    found = coreset(wide, 0.1)
    assert found.shape == (20, 300) and torch.equal(found, coreset(wide, 0.1))
    assert all((wide == token).all(1).any() for token in found)
    assert not torch.equal(found, coreset(wide, 0.1, seed=1))


def test_a_coreset_of_wide_tokens_is_exact_where_asked_for():
    wide = torch.randn(60, 300, generator=torch.Generator().manual_seed(3))
    first = int(torch.randint(60, (), generator=torch.Generator().manual_seed(7)))
    wanted = wide[greedy(F.normalize(wide, dim=-1), 12, first)]
    assert torch.equal(coreset(wide, 0.2, seed=7, dimensions=None), wanted)


def test_a_coreset_worked_out_by_hand():
    """Directions from 0 to 70 degrees: after the first at 0 the farthest is at 70, then the one at 40."""
    angles = torch.tensor([0.0, 10, 40, 60, 70]).deg2rad()
    tokens = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[5.0], [1], [3], [2], [4]])
    draws = {
        seed: int(torch.randint(5, (), generator=torch.Generator().manual_seed(seed))) for seed in range(50)
    }
    seed = next(seed for seed, first in draws.items() if first == 0)
    assert torch.equal(coreset(tokens, 0.2, seed), tokens[[0]])
    assert torch.equal(coreset(tokens, 0.4, seed), tokens[[0, 4]])
    assert torch.equal(coreset(tokens, 0.6, seed), tokens[[0, 2, 4]])


def test_the_size_of_a_coreset_has_no_rounding_errors():
    assert 0.07 * 100 > 7
    assert len(coreset(torch.randn(100, 4), 0.07)) == 7


def test_a_coreset_covers_better_than_chance():
    g = torch.Generator().manual_seed(4)
    clusters = torch.randn(10, 16, generator=g).repeat_interleave(40, 0)
    tokens = clusters + 0.05 * torch.randn(400, 16, generator=g)
    few, drawn = coreset(tokens, 0.025), tokens[torch.randperm(400, generator=g)[:10]]
    assert nearest(tokens[None], few).max() < 0.01 < nearest(tokens[None], drawn).max()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_out_of_bounds_is_refused(share):
    with pytest.raises(InputError, match="wanted above 0 and at most 1"):
        coreset(BANK, share)
