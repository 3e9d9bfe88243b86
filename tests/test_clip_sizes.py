"""A CLIP's sizes are read off its weights, and a tensor that does not belong is named."""

import open_clip
import pytest
import torch
from conftest import TINY

from filo.clip.sizes import check_complete, read_sizes
from filo.errors import InputError


def blank(config):
    with torch.device("meta"):
        return open_clip.CLIP(**config).state_dict()


@pytest.mark.parametrize("name", ["ViT-L-14-336", "ViT-B-16", "ViT-B-32"])
def test_sizes_of_a_model_fit_it(name):
    config = open_clip.get_model_config(name)
    sizes = check_complete(blank(config))
    vision, text = config["vision_cfg"], config["text_cfg"]
    assert sizes.fits(name)
    assert (sizes.layers, sizes.width, sizes.image_size) == (
        vision["layers"],
        vision["width"],
        vision["image_size"],
    )
    assert (sizes.text_layers, sizes.text_width) == (text["layers"], text["width"])
    assert sizes.fits("ViT-L-14-336") == (name == "ViT-L-14-336")


def test_the_grid_does_not_count_as_positions_are_resized():
    weights = blank(open_clip.get_model_config("ViT-L-14-336"))
    weights["visual.positional_embedding"] = torch.empty(1 + 37 * 37, 1024, device="meta")
    sizes = check_complete(weights)
    assert sizes.image_size == 518 and sizes.fits("ViT-L-14-336")
    assert sizes.fits("ViT-L-14")  # which differs from it by the image size alone


def test_sizes_are_told_in_words():
    assert str(read_sizes(blank(TINY))) == (
        "4 layers of width 32, patches of 14, 4 x 4 positions; text 2 of 24; joint 24"
    )


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("visual.proj", None, "visual.proj has 2 dimensions, found none"),
        ("visual.proj", (3,), "visual.proj has 2 dimensions, found (3,)"),
        ("visual.conv1.weight", (32, 3, 0, 14), "found (32, 3, 0, 14)"),
        (
            "visual.conv1.weight",
            (32, 3, 7, 14),
            "visual.conv1.weight (wanted (32, 3, 14, 14), found (32, 3, 7, 14))",
        ),
        ("visual.positional_embedding", (18, 32), "18 position embeddings"),
        ("visual.positional_embedding", (1, 32), "1 position embeddings"),
        ("ln_final.bias", None, "ln_final.bias (wanted (24,), found none)"),
        ("visual.ls", (4,), "visual.ls (wanted none, found (4,))"),
        ("logit_scale", (2,), "logit_scale (wanted (), found (2,))"),
        ("visual.transformer.resblocks.77.ln_1.bias", (32,), "resblocks"),
    ],
)
def test_what_does_not_belong_is_named(name, shape, wanted):
    weights = {**blank(TINY), name: None if shape is None else torch.empty(shape, device="meta")}
    with pytest.raises(InputError) as caught:
        check_complete({n: t for n, t in weights.items() if t is not None})
    assert wanted in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_one_number_in_a_list_is_a_number():
    check_complete({**blank(TINY), "logit_scale": torch.empty(1, device="meta")})
