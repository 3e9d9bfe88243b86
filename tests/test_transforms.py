"""What image and mask files become."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from filo import transforms
from filo.errors import InputError
from filo.transforms import image_size, image_tensor, mask_tensor, mosaic, open_image, open_mask

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def noise(*shape, seed=0, high=256):
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def message_of(call, path):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and str(path) in message
    return message


@pytest.mark.parametrize(("height", "width"), [(37, 61), (9, 9), (56, 56)])
def test_preprocessing_is_that_of_torchvision(height, width):
    image = Image.fromarray(noise(height, width, 3))
    theirs = T.Compose([T.Resize((56, 56), InterpolationMode.BICUBIC), T.ToTensor(), T.Normalize(MEAN, STD)])
    ours = image_tensor(image, 56, MEAN, STD)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs(image), atol=1e-6, rtol=0)


def test_one_grey_pixel_by_hand():
    image = Image.new("RGB", (1, 1), (255, 0, 51))
    tensor = image_tensor(image, 2, (0.5, 0.5, 0.1), (0.5, 0.25, 0.1))
    expected = torch.tensor([1.0, -2.0, 1.0])[:, None, None].expand(3, 2, 2)
    torch.testing.assert_close(tensor, expected)


def test_every_value_above_zero_is_a_defect(tmp_path):
    pixels = np.array([[0, 1, 2], [9, 128, 255]], dtype=np.uint8)
    mask = open_mask(saved(tmp_path / "mask.png", pixels), (3, 2))
    assert np.asarray(mask).tolist() == [[0, 255, 255], [255, 255, 255]]


def test_a_palette_mask_counts_by_its_colours(tmp_path):
    mask = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8), mode="P")
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    mask.save(tmp_path / "mask.png")
    opened = open_mask(tmp_path / "mask.png", (2, 2))
    assert np.asarray(opened).tolist() == [[0, 255], [255, 0]]


def test_masks_of_one_bit_and_of_sixteen_count_above_zero(tmp_path):
    bits = saved(tmp_path / "bits.png", np.array([[False, True]]))
    deep = saved(tmp_path / "deep.png", np.array([[0, 1, 300, 65535]], dtype=np.uint16))
    assert np.asarray(open_mask(bits, (2, 1))).tolist() == [[0, 255]]
    assert np.asarray(open_mask(deep, (4, 1))).tolist() == [[0, 255, 255, 255]]


@pytest.mark.parametrize(("height", "width"), [(37, 61), (120, 80), (20, 20)])
def test_masks_are_resized_as_torchvision_does_it(tmp_path, height, width):
    pixels = noise(height, width, high=10)
    pixels[noise(height, width, seed=1) < 100] = 0
    path = saved(tmp_path / "mask.png", pixels)
    clear = Image.fromarray(np.where(pixels > 0, 255, 0).astype(np.uint8))
    theirs = T.ToTensor()(T.Resize((28, 28), InterpolationMode.BILINEAR)(clear))[0] > 0.5
    ours = mask_tensor(open_mask(path, (width, height)), 28)
    assert ours.dtype == torch.bool and 0 < ours.sum() < ours.numel()
    assert torch.equal(ours, theirs)


def test_a_black_mask_and_none_are_all_normal_for_a_picture_that_is_not_square(tmp_path):
    path = saved(tmp_path / "mask.png", np.zeros((5, 12), dtype=np.uint8))
    assert torch.equal(mask_tensor(open_mask(path, (12, 5)), 8), torch.zeros(8, 8, dtype=torch.bool))
    assert torch.equal(mask_tensor(None, 8), torch.zeros(8, 8, dtype=torch.bool))


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    path = saved(tmp_path / "mask.png", np.zeros((5, 12), dtype=np.uint8))
    message = message_of(lambda: open_mask(path, (5, 12)), path)
    assert "12x5" in message and "5x12" in message


def png_bytes(tmp_path):
    return saved(tmp_path / "whole.png", noise(40, 40, 3)).read_bytes()


BROKEN = {
    "text": lambda whole: b"this is no picture",
    "empty": lambda whole: b"",
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "cut in its header": lambda whole: whole[:20],
    "spoilt": lambda whole: whole[:60] + bytes(200) + whole[260:],
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, spoil):
    path = tmp_path / "broken.png"
    path.write_bytes(spoil(png_bytes(tmp_path)))
    assert "cannot be read as an image" in message_of(lambda: open_image(path), path)
    message_of(lambda: open_mask(path, (40, 40)), path)


def test_no_place_to_cut_a_png_gives_a_traceback(tmp_path):
    whole, path = png_bytes(tmp_path), tmp_path / "cut.png"
    for length in range(0, len(whole) - 20, 97):
        path.write_bytes(whole[:length])
        message_of(lambda: open_image(path), path)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path):
    assert "no such file" in message_of(lambda: open_image(tmp_path / "none.png"), tmp_path / "none.png")
    message_of(lambda: open_image(tmp_path), tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "bomb.png", noise(40, 40))
    for limit in (1599, 100):  # found by us, and by Pillow at twice the limit
        monkeypatch.setattr(transforms, "LARGEST", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            assert f"wanted at most {limit:,} pixels" in message_of(lambda: open_image(path), path)


def test_what_pillow_takes_for_an_attack_is_read_without_a_warning(tmp_path, monkeypatch):
    path = saved(tmp_path / "large.png", noise(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(path).size == image_size(path) == (40, 40)
        assert open_mask(path, (40, 40)).size == (40, 40)
    assert Image.MAX_IMAGE_PIXELS == 100  # others may rely on it


def test_the_hint_for_datasets_is_left_out_elsewhere(tmp_path):
    (tmp_path / "empty.png").touch()
    for name in ("empty.png", "none.png"):
        path = tmp_path / name
        assert "in a dataset" in message_of(lambda path=path: open_image(path), path)
        assert "in a dataset" not in message_of(lambda path=path: open_image(path, in_dataset=False), path)


def test_grey_becomes_three_equal_channels(tmp_path):
    pixels = noise(4, 5)
    image = open_image(saved(tmp_path / "grey.png", pixels))
    assert np.array_equal(np.asarray(image), np.stack([pixels] * 3, axis=-1))


def over_white(colours, alpha):
    """Lay colours (H, W, 3) over white as their definition says."""
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def test_what_is_transparent_lies_over_white(tmp_path):
    pixels = noise(4, 5, 4)
    pixels[0, 0, 3], pixels[0, 1, 3] = 0, 255
    image = np.asarray(open_image(saved(tmp_path / "rgba.png", pixels)))
    assert image[0, 0].tolist() == [255] * 3 and image[0, 1].tolist() == pixels[0, 1, :3].tolist()
    assert np.abs(image - over_white(pixels[..., :3], pixels[..., 3])).max() <= 1


def test_an_opaque_picture_keeps_every_value(tmp_path):
    pixels = noise(4, 5, 4)
    pixels[..., 3] = 255
    image = open_image(saved(tmp_path / "rgba.png", pixels))
    assert np.array_equal(np.asarray(image), pixels[..., :3])


def test_grey_with_alpha_lies_over_white_too(tmp_path):
    Image.merge("LA", [Image.fromarray(noise(4, 5)), Image.new("L", (5, 4), 0)]).save(tmp_path / "la.png")
    assert (np.asarray(open_image(tmp_path / "la.png")) == 255).all()


def test_a_palette_with_a_transparent_colour_shows_white_there(tmp_path):
    for ending in ("png", "gif"):
        picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
        picture.putpalette([10, 20, 30, 40, 50, 60])
        picture.save(tmp_path / f"palette.{ending}", transparency=0)
        seen = np.asarray(open_image(tmp_path / f"palette.{ending}")).tolist()
        assert seen == [[[255] * 3, [40, 50, 60]]], ending


def test_a_colour_that_stands_for_transparent_is_white(tmp_path):
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)
    path = saved(tmp_path / "key.png", pixels, transparency=(1, 2, 3))
    assert np.asarray(open_image(path)).tolist() == [[[255] * 3, [4, 5, 6]]]


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_printing_inks_become_the_colours_they_print(tmp_path, ending):
    inks = [(0, 0, 0, 0), (0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255)]
    wanted = [(255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 0)]
    for ink, colour in zip(inks, wanted, strict=True):
        Image.new("CMYK", (16, 16), ink).save(tmp_path / f"ink.{ending}")
        image = open_image(tmp_path / f"ink.{ending}")
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - colour).max() <= 3


# what brings an image upright, from the EXIF standard: where its first row and column are to lie
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def saved_turned(path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(pixels).save(path, exif=exif, **options.get(path.suffix, {}))
    return path


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_a_camera_that_was_turned_gives_an_upright_image(tmp_path, ending, orientation):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255  # one corner, which tells all eight apart together with the sizes
    pixels[:8, 16:] = 90
    path = saved_turned(tmp_path / f"turned.{ending}", pixels, orientation)
    wanted = UPRIGHT[orientation](pixels)
    image = open_image(path)
    assert np.abs(np.asarray(image).astype(int) - wanted).max() <= 3
    assert image_size(path) == image.size == wanted.shape[1::-1]


def test_sixteen_bits_and_transparency_are_turned_as_well(tmp_path):
    deep = (np.arange(6, dtype=np.uint16) * 256).reshape(2, 3)
    image = open_image(saved_turned(tmp_path / "deep.png", deep, 6))
    assert np.asarray(image)[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    clear = np.dstack([np.zeros((2, 3, 3), np.uint8), np.array([[0, 255, 255], [255, 255, 255]], np.uint8)])
    image = open_image(saved_turned(tmp_path / "clear.png", clear, 8))
    assert np.asarray(image)[..., 0].tolist() == [[0, 0], [0, 0], [255, 0]]


def test_a_mask_drawn_over_the_upright_image_fits(tmp_path):
    path = saved_turned(tmp_path / "photo.jpg", noise(16, 24, 3), 6)
    mask = saved(tmp_path / "mask.png", np.ones((24, 16), np.uint8))
    assert open_mask(mask, image_size(path)).size == open_mask(mask, open_image(path).size).size == (16, 24)
    flat = saved(tmp_path / "flat.png", np.ones((16, 24), np.uint8))
    assert "24x16 pixels, its image 16x24" in message_of(lambda: open_mask(flat, image_size(path)), flat)


def test_the_size_of_a_png_is_known_without_its_pixels(tmp_path):
    whole = png_bytes(tmp_path)
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert image_size(tmp_path / "cut.png") == (40, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_costs_nothing_but_the_turning(tmp_path):
    pixels = noise(8, 12, 3)
    for rubbish in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\xff\1"):
        path = saved(tmp_path / "photo.png", pixels, exif=rubbish)
        assert np.array_equal(np.asarray(open_image(path)), pixels) and image_size(path) == (12, 8)


@pytest.mark.parametrize("ending", ["gif", "tif", "png", "webp"])
def test_of_several_frames_the_first_is_taken(tmp_path, ending):
    frames = [Image.new("RGB", (4, 3), (value, 0, 0)) for value in (255, 0, 0)]
    lossless = {"lossless": True} if ending == "webp" else {}
    frames[0].save(tmp_path / f"film.{ending}", save_all=True, append_images=frames[1:], **lossless)
    image = open_image(tmp_path / f"film.{ending}")
    assert image.size == (4, 3) and np.asarray(image)[0, 0].tolist() == [255, 0, 0]


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "empty.png").touch()
    assert "it is empty, 0 bytes" in message_of(lambda: open_image(tmp_path / "empty.png"), tmp_path)


def test_a_palette_gives_its_colours(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "palette.png")
    assert np.asarray(open_image(tmp_path / "palette.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped_to_white(tmp_path, ending):
    path = saved(tmp_path / f"deep.{ending}", np.array([[0, 256, 25700, 65535]], dtype=np.uint16))
    image = open_image(path)
    assert image.mode == "RGB" and np.asarray(image)[0, :, 0].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0, 1, 200, 255], [0, 1, 200, 255]), ([0, 256, 25700, 65535], [0, 1, 100, 255])],
)
def test_integers_of_32_bits_are_taken_by_their_range(tmp_path, values, wanted):
    path = saved(tmp_path / "deep.tif", np.array([values], dtype=np.int32))
    assert np.asarray(open_image(path))[0, :, 0].tolist() == wanted


@pytest.mark.parametrize(("values", "seen"), [([0, 65536], "0 to 65536"), ([-1, 9], "-1 to 9")])
def test_integers_of_more_than_16_bits_are_refused(tmp_path, values, seen):
    path = saved(tmp_path / "deep.tif", np.array([values], dtype=np.int32))
    assert f"32-bit integers of {seen}" in message_of(lambda: open_image(path), path)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_a_dark_file_of_16_bits_stays_dark(tmp_path, ending):
    path = saved(tmp_path / f"dark.{ending}", np.array([[0, 255]], dtype=np.uint16))
    assert np.asarray(open_image(path))[0, :, 0].tolist() == [0, 0]


def test_an_image_of_floating_point_numbers_is_refused(tmp_path):
    path = saved(tmp_path / "float.tif", np.array([[0.0, 0.5]], dtype=np.float32))
    assert "floating-point" in message_of(lambda: open_image(path), path)


def test_a_mosaic_lays_four_images_row_by_row():
    parts = [np.array([[1, 2], [3, 4]], dtype=np.uint8) + 10 * i for i in range(4)]
    images = [Image.fromarray(np.stack([part] * 3, axis=-1)) for part in parts]
    marks = [[[255, 0], [0, 0]], None, [[0, 0], [255, 0]], [[255, 255], [0, 255]]]
    masks = [Image.fromarray(np.array(mark, dtype=np.uint8)) if mark else None for mark in marks]
    image, mask = mosaic(images, masks)
    assert (image.mode, mask.mode) == ("RGB", "L")
    assert np.asarray(image)[..., 1].tolist() == [
        [1, 2, 11, 12],
        [3, 4, 13, 14],
        [21, 22, 31, 32],
        [23, 24, 33, 34],
    ]
    assert np.asarray(mask).tolist() == [
        [255, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 255, 255],
        [255, 0, 0, 255],
    ]


def test_a_mosaic_scales_all_parts_to_the_first_one():
    sizes = [(3, 2), (6, 4), (1, 1), (9, 8)]
    images = [Image.new("RGB", size, (10 * i, 0, 0)) for i, size in enumerate(sizes)]
    half = np.zeros((4, 6), dtype=np.uint8)
    half[:2] = 255
    masks = [None, Image.fromarray(half), Image.new("L", (1, 1), 255), None]
    image, mask = mosaic(images, masks)
    assert image.size == mask.size == (6, 4)
    red = np.asarray(image)[..., 0]
    assert red.tolist() == [[0, 0, 0, 10, 10, 10]] * 2 + [[20, 20, 20, 30, 30, 30]] * 2
    top, second = [0, 0, 0, 255, 255, 255], [0, 0, 0, 0, 0, 0]
    assert np.asarray(mask).tolist() == [top, second] + [[255, 255, 255, 0, 0, 0]] * 2


def test_a_mosaic_takes_four_and_only_four():
    with pytest.raises(ValueError, match="not 3 and 3"):
        mosaic([Image.new("RGB", (2, 2))] * 3, [None] * 3)
