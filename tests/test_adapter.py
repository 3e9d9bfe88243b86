"""The adapter's arithmetic."""

import pytest
import torch

from filo.adapter import Adapter


def silu(x):
    return x / (1 + torch.exp(torch.tensor(-x))).item()


def by_hand(bias, residual):
    adapter = Adapter(2, bias=bias, residual=residual)
    with torch.no_grad():
        adapter.down.weight[:] = torch.tensor([[2.0, -1.0]])
        adapter.up.weight[:] = torch.tensor([[1.0], [-3.0]])
        if bias:
            adapter.down.bias[:] = 1.0
            adapter.up.bias[:] = torch.tensor([0.5, 0.25])
    return adapter


@pytest.mark.parametrize(
    ("bias", "residual", "inner", "expected"),
    [  # of (3, 2): 2 * 3 - 2 = 4, up to (4, -12); with biases 5, up to (5.5, -14.75)
        (False, False, 4, [silu(4), silu(-12)]),
        (False, True, 4, [silu(4) + 3, silu(-12) + 2]),
        (True, False, 5, [silu(5.5), silu(-14.75)]),
        (True, True, 5, [silu(5.5) + 3, silu(-14.75) + 2]),
    ],
)
def test_the_adapter_by_hand(bias, residual, inner, expected):
    adapter, features = by_hand(bias, residual), torch.tensor([[3.0, 2.0]])
    assert adapter.down(features).item() == inner
    torch.testing.assert_close(adapter(features), torch.tensor([expected]))


def test_what_is_negative_inside_is_cut_off():
    features = torch.tensor([[-3.0, 2.0]])  # 2 * -3 - 2 = -8, cut to 0, and SiLU(0) is 0
    assert torch.equal(by_hand(False, True)(features), features)
    assert torch.equal(by_hand(False, False)(features), torch.zeros(1, 2))


@pytest.mark.parametrize(("bias", "count"), [(False, 2 * 768 * 384), (True, 2 * 768 * 384 + 768 + 384)])
def test_the_parameters_are_counted(bias, count):
    assert sum(p.numel() for p in Adapter(768, bias=bias).parameters()) == count


def test_by_default_it_is_the_published_programs():
    adapter = Adapter(8)
    assert adapter.residual and adapter.down.bias is None and adapter.up.bias is None


def test_images_of_a_batch_do_not_touch_one_another():
    adapter, features = Adapter(8, bias=True, residual=False), torch.randn(3, 8)
    each = torch.cat([adapter(one[None]) for one in features])
    torch.testing.assert_close(adapter(features), each)
