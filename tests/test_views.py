"""How pictures are cut, prepared and put together again."""

import numpy as np
import pytest
import torch
from PIL import Image

from filo.transforms import image_tensor
from filo.views import (
    MOST,
    Long,
    Scales,
    Tiles,
    Whole,
    count_tiles,
    cut,
    join_tiles,
    move_images,
    stack_images,
)

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def noise(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("short", [1, 2, 3, 7, 100, 1000])
@pytest.mark.parametrize("ratio", [1, 1.001, 1.3, 1.5, 1.8, 2, 3.7, 40, 99.5, 250])
def test_pieces_cover_a_picture_evenly_and_overlap_by_a_fifth(short, ratio):
    long = round(short * ratio)
    length, starts = cut(long, short)
    steps = np.diff(starts)
    assert starts[0] == 0 and starts[-1] + length == long
    assert all(0 < step <= max(1, 0.8 * length) for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1
    assert length == max(short, -(-long // MOST))
    fewer = len(starts) - 2  # one piece less would leave a larger step
    assert fewer < 1 or (long - length) / fewer > int(0.8 * length)


def test_a_square_is_one_piece_and_visas_pictures_are_two():
    assert cut(300, 300) == (300, [0])
    assert cut(1500, 1000) == (1000, [0, 500])
    assert cut(2000, 1000) == (1000, [0, 500, 1000])


def test_a_long_picture_comes_in_pieces_from_the_left_or_from_the_top():
    wide = noise(90, 40)
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    of_wide, of_tall = (Long(24)(each, MEAN, STD) for each in (wide, tall))
    length, starts = cut(90, 40)
    assert of_wide.sizes == ((90, 40),) and of_tall.sizes == ((40, 90),)
    assert len(of_wide.pixels) == len(starts) == count_tiles((90, 40)) == 3
    for piece, other, start in zip(of_wide.pixels, of_tall.pixels, starts, strict=True):
        wanted = image_tensor(wide.crop((start, 0, start + length, 40)), 24, MEAN, STD)
        assert torch.equal(piece, wanted)
        # the axes are resized in turn and rounded in between
        torch.testing.assert_close(other, wanted.transpose(1, 2), atol=0.1, rtol=0)


def test_batches_of_every_view_are_stacked_and_moved():
    pictures = [noise(30, 30, 1), noise(80, 30, 2)]
    whole, scales, long = (
        stack_images([view(each, MEAN, STD) for each in pictures])
        for view in (Whole(16), Scales((16, 24)), Long(16))
    )
    assert whole.shape == (2, 3, 16, 16) and torch.equal(whole, scales[16])
    assert scales[24].shape == (2, 3, 24, 24)
    assert long.sizes == ((30, 30), (80, 30)) and len(long.pixels) == 1 + count_tiles((80, 30))
    assert torch.equal(long.pixels[0], whole[0])
    cpu = torch.device("cpu")
    assert torch.equal(move_images(whole, cpu), whole) and list(move_images(scales, cpu)) == [16, 24]
    moved = move_images(long, cpu)
    assert isinstance(moved, Tiles) and moved.sizes == long.sizes and torch.equal(moved.pixels, long.pixels)


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (1000, 30)])
def test_maps_are_put_together_where_their_pieces_lie(size):
    """What is true of the whole picture, a slope along it, is cut into pieces and comes out as it was."""
    side, across = 20, size[0] > size[1]
    long = max(size)
    length, starts = cut(long, min(size))
    places = [start + (np.arange(side) + 0.5) * length / side for start in starts]
    rows = [torch.tensor(each / long, dtype=torch.float32).expand(side, side) for each in places]
    maps = torch.stack([row if across else row.T for row in rows])
    found = join_tiles(maps, size)
    wanted = ((torch.arange(side) + 0.5) / side).expand(side, side)
    torch.testing.assert_close(found, wanted if across else wanted.T, atol=0.02, rtol=0)
    torch.testing.assert_close(join_tiles(torch.ones_like(maps), size), torch.ones(side, side))


def test_where_pieces_overlap_their_mean_counts():
    maps = torch.stack([torch.zeros(20, 20), torch.ones(20, 20)])
    found = join_tiles(maps, (150, 100))  # from 0 to 100 and from 50 to 150
    assert found[:, :6].max() == 0 and found[:, 14:].min() == 1
    torch.testing.assert_close(found[:, 8:12], torch.full((20, 4), 0.5))
    assert torch.equal(join_tiles(maps[:1], (100, 100)), maps[0])
