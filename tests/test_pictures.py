"""What may be handed over as an image in Python."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from filo.pictures import to_picture
from tests.trees import complaint

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
OPAQUE = np.dstack([PIXELS, np.full((5, 7), 255, np.uint8)])


def seen(image):
    opened = to_picture(image).open()
    assert opened.mode == "RGB"
    return np.asarray(opened)


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        PIXELS.astype(np.uint16) * 256 + 7,
        OPAQUE,
        PIXELS[::-1][::-1],
        np.asfortranarray(PIXELS),
        Image.fromarray(PIXELS),
        Image.fromarray(OPAQUE),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).double().requires_grad_(),
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).half(),
    ],
    ids=[
        "uint8",
        "uint16",
        "alpha",
        "strided",
        "columns",
        "PIL",
        "PIL alpha",
        "bytes",
        "float",
        "double",
        "half",
    ],
)
def test_every_form_of_one_image_is_the_same(image):
    assert np.array_equal(seen(image), PIXELS)


@pytest.mark.parametrize("form", [lambda a: a, lambda a: a[..., None], lambda a: a.astype(np.uint16) << 8])
def test_grey_becomes_three_equal_channels(form):
    grey = PIXELS[..., 0]
    assert np.array_equal(seen(form(grey)), np.stack([grey] * 3, -1))


def test_a_path_is_opened_when_it_is_asked_for_and_forgotten_on_request(tmp_path):
    path = tmp_path / "a.png"
    for given in (path, str(path)):
        picture = to_picture(given)
        Image.fromarray(PIXELS).save(path)
        assert np.array_equal(np.asarray(picture.open()), PIXELS) and picture.path == path
        path.unlink()
        assert picture.open().size == (7, 5)  # still in memory
        picture.close()
        assert complaint(picture.open) == f"{path}: no such file"


def test_what_is_in_memory_stays_there():
    picture = to_picture(PIXELS.copy())
    picture.close()
    assert picture.path is None and picture.open().size == (7, 5)


def test_a_photo_opened_by_the_user_is_turned_like_a_path(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    by_path, opened = seen(tmp_path / "turned.png"), seen(Image.open(tmp_path / "turned.png"))
    assert np.array_equal(opened, by_path) and by_path.shape == (7, 5, 3)


NAN = torch.full((3, 4, 4), torch.nan)


@pytest.mark.parametrize(
    ("image", "pattern"),
    [
        (None, "a NoneType is no image: wanted a path"),
        (12, "a int is no image"),
        (b"bytes", "a bytes is no image"),
        (PIXELS / 255, "an array of float64, wanted uint8"),
        (PIXELS.astype(np.int32), "an array of int32, wanted uint8"),
        (PIXELS.transpose(2, 0, 1), r"shape \(3, 5, 7\), wanted \(H, W, 3\)"),
        (PIXELS[None], r"shape \(1, 5, 7, 3\).*one image at a time, several as a list"),
        (PIXELS[:0], "holds no pixels"),
        (PIXELS[0, 0], r"shape \(3,\)"),
        (torch.zeros(5, 7, 3), r"shape \(5, 7, 3\), wanted \(3, H, W\)"),
        (torch.zeros(1, 3, 5, 7), "one image at a time"),
        (torch.zeros(3, 0, 7), "holds no pixels"),
        (torch.zeros(3, 5, 7, dtype=torch.int64), "a tensor of torch.int64, wanted uint8"),
        (torch.full((3, 5, 7), 1.5), "values of 1.5 to 1.5, wanted 0 to 1, not yet normalised"),
        (torch.full((3, 5, 7), -0.1), "values of -0.1 to -0.1"),
        (NAN, "values of nan or inf"),
        (Image.new("RGB", (0, 4)), "0x4 pixels hold nothing"),
        (Image.new("F", (4, 4)), "floating-point numbers"),
    ],
)
def test_what_is_no_image_is_one_line(image, pattern):
    message = complaint(lambda: to_picture(image, "images[2]"))
    assert message.startswith("images[2]: ") and re.search(pattern, message), message


def test_a_broken_file_opened_by_the_user_is_one_line(tmp_path):
    Image.fromarray(np.tile(PIXELS, (9, 9, 1))).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with Image.open(tmp_path / "cut.png") as image:
        assert "images[0]" in complaint(lambda: to_picture(image, "images[0]"))
    assert to_picture(Path("cut.png")).name == "cut.png"
