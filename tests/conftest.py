"""What many tests share: a tiny CLIP drawn from a seed."""

import json
from pathlib import Path

import pytest
import torch

from filo.clip.load import load_clip

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 56, "layers": 4, "width": 32, "head_width": 16, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_clip(tiny_config):
    """A CLIP of four layers for 56 x 56 images: a 4 x 4 grid of patches."""
    return load_clip(str(tiny_config), "drawn:0", 56)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small gain nothing from threads, which on a busy machine wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
