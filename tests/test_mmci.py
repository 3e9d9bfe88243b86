"""The multi-shape head against its convolutions one by one."""

import pytest
import torch
from torch.nn import functional as F

from filo.mmci import SHAPES, MultiShapeConv, MultiShapeHeads, from_grid, merge_heads, to_grid

G, C, D = 5, 4, 3


def drawn(B=2, grid=G):
    return torch.randn(B, grid * grid, C)


def slowly(head, tokens):
    """Six convolutions with the padding written out, then their sum."""
    B = len(tokens)
    image = tokens.view(B, G, G, C).permute(0, 3, 1, 2)
    total = torch.zeros(B, D, G, G)
    for conv in head.branches:
        h, w = conv.kernel_size
        padded = F.pad(image, (w // 2, w // 2, h // 2, h // 2))
        total = total + F.conv2d(padded, conv.weight) + conv.bias[:, None, None]
    return total.permute(0, 2, 3, 1).reshape(B, G * G, D)


def test_the_kernels_are_those_of_the_paper():
    shapes = [conv.kernel_size for conv in MultiShapeConv(C, D).branches]
    assert shapes == [(1, 1), (3, 3), (5, 5), (7, 7), (1, 5), (5, 1)] == list(SHAPES)
    per_pair = 1 + 9 + 25 + 49 + 5 + 5
    assert sum(p.numel() for p in MultiShapeConv(C, D).parameters()) == C * D * per_pair + 6 * D


def test_one_convolution_equals_six():
    head, tokens = MultiShapeConv(C, D), drawn()
    torch.testing.assert_close(head(tokens), slowly(head, tokens), atol=1e-5, rtol=0)


def test_every_branch_gets_the_gradient_it_would_get_by_itself():
    head, tokens = MultiShapeConv(C, D), drawn().requires_grad_()
    weights = torch.randn(2, G * G, D)
    wanted = [tokens, *head.parameters()]
    ours = torch.autograd.grad((head(tokens) * weights).sum(), wanted)
    theirs = torch.autograd.grad((slowly(head, tokens) * weights).sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_the_branches_add_up_to_the_head():
    head, tokens = MultiShapeConv(C, D), drawn()
    each = head.each(tokens)
    assert len(each) == 6 and {part.shape for part in each} == {(2, G * G, D)}
    torch.testing.assert_close(torch.stack(each).sum(0), head(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_number_format_is_close_and_for_inference_alone(dtype):
    heads, tokens = MultiShapeHeads(MultiShapeConv(C, D) for _ in range(2)), drawn()
    taps = [tokens, tokens]
    exact = heads(taps)
    for one, other in zip(exact, heads(taps, dtype), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        for one, other in zip(exact, heads(taps, dtype), strict=True):
            assert other.dtype == torch.float32
            assert 0 < (one - other).abs().max() < 0.03 * one.abs().max()
        for one, other in zip(exact, heads(taps), strict=True):  # the kernel kept in between is not used
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_small_kernel_sits_in_the_middle_of_the_merged_one():
    head = MultiShapeConv(1, 1, shapes=((1, 3), (5, 1)))
    with torch.no_grad():
        head.branches[0].weight[:] = torch.tensor([1.0, 2, 3])
        head.branches[1].weight[:] = torch.tensor([10.0, 20, 30, 40, 50])[:, None]
        head.branches[0].bias[:], head.branches[1].bias[:] = 7, 8
    kernel, bias = merge_heads([head])
    expected = [[0, 10, 0], [0, 20, 0], [1, 32, 3], [0, 40, 0], [0, 50, 0]]
    assert kernel[0, 0].tolist() == expected and bias.tolist() == [15]


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((1, 5), [1], [0, 1, 2, 3]),
        ((5, 1), [0, 1, 2, 3], [2]),
        ((1, 1), [1], [2]),
        ((3, 3), [0, 1, 2], [1, 2, 3]),
    ],
)
def test_a_change_spreads_as_far_as_the_kernel_reaches(shape, rows, columns):
    head, tokens = MultiShapeConv(C, D, shapes=(shape,)), drawn(B=1, grid=4)
    changed = tokens.clone()
    changed[:, 6] += 1.0  # row 1, column 2 of a 4 x 4 grid
    differ = (head(tokens) != head(changed)).any(-1).view(4, 4)
    assert differ.any(1).nonzero().flatten().tolist() == rows
    assert differ.any(0).nonzero().flatten().tolist() == columns


def test_a_horizontal_branch_does_not_mix_rows():
    head, tokens = MultiShapeConv(8, 5, shapes=((1, 5),)), torch.randn(1, 16, 8)
    changed = tokens.clone()
    changed[:, 4:8] += 1.0  # the second row of a 4 x 4 grid
    rows_differ = (head(tokens) != head(changed)).any(-1).view(4, 4).any(1)
    assert rows_differ.tolist() == [False, True, False, False]


def test_a_batch_equals_its_images_one_by_one():
    head, tokens = MultiShapeConv(C, D), drawn(B=3)
    one_by_one = torch.cat([head(image[None]) for image in tokens])
    torch.testing.assert_close(head(tokens), one_by_one, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shapes", [((2, 2),), ((1, 1), (3, 4)), ()])
def test_even_kernels_and_none_at_all_are_refused(shapes):
    with pytest.raises(ValueError, match="odd sides"):
        MultiShapeConv(C, D, shapes=shapes)


def test_a_forgotten_class_token_is_refused():
    with pytest.raises(ValueError, match=r"17 tokens .* class token"):
        MultiShapeConv(C, D)(torch.zeros(1, 17, C))


def test_tokens_fill_the_grid_row_by_row_and_come_back():
    assert to_grid(torch.arange(9.0).view(1, 9, 1)).tolist() == [[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]]
    tokens = drawn()
    assert torch.equal(from_grid(to_grid(tokens)), tokens)


def test_heads_that_see_the_same_tokens_run_as_one_convolution_and_others_do_not(monkeypatch):
    heads = MultiShapeHeads(MultiShapeConv(C, D) for _ in range(4))
    one, other = drawn(), drawn()
    calls = []
    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args, **kw: calls.append(len(args[1])) or conv2d(*args, **kw))
    with torch.no_grad():
        found = heads([one, other, one, one])
    assert calls == [3 * D, D]
    for head, tokens, output in zip(heads, (one, other, one, one), found, strict=True):
        torch.testing.assert_close(output, slowly(head, tokens), atol=1e-5, rtol=0)


def test_in_training_every_head_is_one_convolution(monkeypatch):
    heads, tokens = MultiShapeHeads(MultiShapeConv(C, D) for _ in range(3)), drawn()
    calls = []
    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args, **kw: calls.append(len(args[1])) or conv2d(*args, **kw))
    for head, output in zip(heads, heads([tokens] * 3), strict=True):
        torch.testing.assert_close(output, slowly(head, tokens), atol=1e-5, rtol=0)
    assert calls[:3] == [D] * 3


def test_merged_heads_give_every_branch_its_gradient():
    heads, tokens = MultiShapeHeads(MultiShapeConv(C, D) for _ in range(3)), drawn()
    weights = torch.randn(3, 2, G * G, D)
    ours = torch.autograd.grad((torch.stack(heads([tokens] * 3)) * weights).sum(), list(heads.parameters()))
    slow = torch.stack([slowly(head, tokens) for head in heads])
    theirs = torch.autograd.grad((slow * weights).sum(), list(heads.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_kernels_are_merged_once_until_a_weight_changes(monkeypatch):
    heads, tokens = MultiShapeHeads(MultiShapeConv(C, D) for _ in range(2)), drawn()
    merged = []
    monkeypatch.setattr("filo.mmci.merge_heads", lambda h: merged.append(1) or merge_heads(h))
    first = heads([tokens] * 2)
    assert torch.equal(first[0], heads([tokens] * 2)[0]) and len(merged) == 1
    heads[0].branches[1].weight += 1
    changed = heads([tokens] * 2)
    assert len(merged) == 2
    torch.testing.assert_close(changed[0], slowly(heads[0], tokens), atol=1e-4, rtol=1e-5)
    heads.load_state_dict({name: torch.zeros_like(t) for name, t in heads.state_dict().items()})
    assert not heads([tokens] * 2)[1].any()


def test_as_many_taps_as_heads_are_wanted():
    with pytest.raises(ValueError, match="1 taps for 2 heads"):
        MultiShapeHeads(MultiShapeConv(C, D) for _ in range(2))([drawn()])
