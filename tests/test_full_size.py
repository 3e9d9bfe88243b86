"""The published size on this machine: ViT-L-14-336 at 518 pixels, weights drawn from a seed."""

import math

import pytest
import torch

from filo.clip.load import load_clip
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import FiLoConfig
from filo.prompts import PromptBook, find_prompt_file


@pytest.mark.slow
def test_one_training_step_and_one_image():
    clip = load_clip("ViT-L-14-336", "drawn:0", 518)
    assert (clip.layers, clip.vision_width, clip.embed_dim, clip.text_width) == (24, 1024, 768, 768)
    texts = PromptBook([find_prompt_file("mvtec")]).texts(["bottle"], "official", True)
    model = FiLoModel(clip, FiLoConfig(), texts)
    trained = sum(t.numel() for t in model.trained_state().values())
    mmci = 3 * (1024 * 768 * (1 + 9 + 25 + 49 + 5 + 5) + 6 * 768)
    prompts = 2 * (12 * 768 + 768 * 48 + 48 + 48 * 768 + 768)
    assert trained == mmci + 4 * (1024 * 768 + 768) + prompts + 2 * 768 * 384

    image, mask = torch.randn(1, 3, 518, 518), torch.zeros(1, 518, 518, dtype=torch.bool)
    mask[:, 100:200, 100:300] = True
    groups = model.trained_parameters()
    optimizer = torch.optim.AdamW([*groups["decoder"], *groups["prompts"]], lr=1e-4, betas=(0.5, 0.999))
    features = model.image_features(image)
    first = model.local_loss(features, ["bottle"], mask)
    first.backward()
    optimizer.step()
    with torch.no_grad():
        assert math.isfinite(first.item()) and model.local_loss(features, ["bottle"], mask) < first
    prediction = model.predict(image, ["bottle"])
    assert prediction.maps.shape == (1, 518, 518)
    assert prediction.maps.min() >= 0 and prediction.maps.max() <= 1 and prediction.scores.isfinite().all()
