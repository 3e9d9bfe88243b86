"""Agreement with numbers of the published AnomalyCLIP; `ANOMALYCLIP_GOLDEN` names another file of the form.

Every key of the file is checked: `test_every_key_is_checked` fails on one that no test knows.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from filo.clip.load import load_clip
from filo.losses import dice_loss, focal_loss
from filo.methods.anomalyclip import AnomalyCLIPConfig, AnomalyCLIPModel
from filo.stages import make_adam
from tests.published_files import draw_clip, drawn

DEFAULT = Path(__file__).parent / "golden" / "anomalyclip_mini.npz"
STORE = np.load(os.environ.get("ANOMALYCLIP_GOLDEN", DEFAULT))
META = json.loads(str(STORE["meta"]))
CASES = {case["tag"]: case for case in META["cases"]}
RUNS = {run["tag"]: run for run in META["train"]}
OF_A_CASE = {"ids", "text", "text_norm", "global", "patch_first8", "sim_first8", "maps_stride7", "maps_mean"}
OF_A_CASE |= {"sum_stride7", "final_stride7", "final_stats", "score"}
OF_A_RUN = {"losses", "map_losses", "image_losses", "parts"}
OTHERS = {"meta", "loss.focal", "loss.dice", "prompts.normal", "prompts.abnormal"}
FINE, COARSE = 2e-5, 1e-4  # absolute, of normalised values and of raw features


def golden(key):
    return torch.from_numpy(np.asarray(STORE[key]))


def close(found, key, atol, rtol=0.0):
    torch.testing.assert_close(found.detach(), golden(key), atol=atol, rtol=rtol, check_dtype=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Gives the model of a case or run, loaded as a user's CLIP is, its trained part drawn by name."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "clip.json").write_text(json.dumps(META["clip"]))
    save_file(draw_clip(META["clip"]), folder / "clip.safetensors")
    clips = {}

    def build(spec):
        sizes = {name: spec[name] for name in ("n_ctx", "t_n_ctx", "depth")}
        more = {"sigma": float(spec["sigma"])} if "sigma" in spec else {}
        config = AnomalyCLIPConfig(features_list=tuple(spec["features_list"]), **sizes, **more)
        side, files = spec["image_size"], (str(folder / "clip.json"), str(folder / "clip.safetensors"))
        if side not in clips:
            clips[side] = load_clip(*files, side, config.activation, resize=config.resize)
        model = AnomalyCLIPModel(clips[side], config, {})
        state = {name: tuple(t.shape) for name, t in model.trained_state().items()}
        model.load_trained_state({name: drawn(name, shape) for name, shape in state.items()})
        return model

    return build


def pictures(seed, count, side):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def masks_of(seed, labels, side, patch):
    grid = side // patch
    g = torch.Generator().manual_seed(seed)
    cells = torch.randn(len(labels), grid, grid, generator=g) > 1
    full = cells.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return full & torch.tensor(labels, dtype=torch.bool)[:, None, None]


@pytest.fixture(scope="module", params=CASES)
def case(request, build):
    spec = CASES[request.param]
    model = build(spec).eval()
    return spec, model, pictures(spec["seed"], 1, spec["image_size"])


def test_token_ids(case):
    spec, model, _ = case
    found = model.clip.text.tokenize([model.config.normal, model.config.abnormal], spec["n_ctx"])
    assert found.tolist() == STORE[f"{spec['tag']}.ids"].tolist()


def test_token_ids_of_the_first_case_stand_by_themselves():
    first = STORE[f"{META['cases'][0]['tag']}.ids"].tolist()
    assert [STORE["prompts.normal"].tolist(), STORE["prompts.abnormal"].tolist()] == first


def test_text_features(case):
    spec, model, _ = case
    with torch.no_grad():
        text = model.text_features()
    close(text, f"{spec['tag']}.text", COARSE)
    close(F.normalize(text, dim=-1), f"{spec['tag']}.text_norm", FINE)


def test_image_features(case):
    spec, model, images = case
    features = model.image_features(images)
    close(features.image, f"{spec['tag']}.global", COARSE)
    close(torch.stack([tap[0, :8] for tap in features.vv]), f"{spec['tag']}.patch_first8", COARSE)


def test_maps_and_score(case):
    spec, model, images = case
    tag, features = spec["tag"], model.image_features(images)
    with torch.no_grad():
        text = F.normalize(model.text_features(), dim=-1)
        alike = torch.stack([model.compare(tap[0, :8], text) for tap in features.vv])
        maps = model.probability_maps(features, text)
    close(alike, f"{tag}.sim_first8", FINE)
    close(torch.stack(maps)[..., ::7, ::7], f"{tag}.maps_stride7", FINE)
    close(torch.stack(maps).mean((-2, -1)), f"{tag}.maps_mean", FINE)
    close(torch.stack(maps)[:, :, 1].sum(0)[:, ::7, ::7], f"{tag}.sum_stride7", FINE)
    found = model.predict(images, ["anything"])
    final = found.maps[0]
    close(found.maps[:, ::7, ::7], f"{tag}.final_stride7", FINE)
    close(torch.stack([final.min(), final.max(), final.mean()]), f"{tag}.final_stats", FINE)
    close(found.scores, f"{tag}.score", FINE)


@pytest.fixture(scope="module", params=RUNS)
def trained(request, build):
    """A training step by step: losses, parts, first gradients, final weights."""
    spec = RUNS[request.param]
    model = build(spec).train()
    parameters = dict(model.named_parameters())
    learned = {name: p for name, p in parameters.items() if not name.startswith("clip.")}
    optimizer = make_adam([{"params": [*learned.values()], "lr": META["constants"]["lr"]}], fused=True)
    losses, parts, grads = [], [], {}
    for image_seed, mask_seed, labels in spec["steps"]:
        images = pictures(image_seed, len(labels), spec["image_size"])
        masks = masks_of(mask_seed, labels, spec["image_size"], model.clip.patch_size)
        features = model.image_features(images)
        with torch.no_grad():
            maps = model.probability_maps(features, F.normalize(model.text_features(), dim=-1))
            parts.append(torch.stack([torch.stack(model.map_losses(each, masks)) for each in maps]))
        loss = model.loss(features, masks, torch.tensor(labels))
        sum(loss).backward()
        grads = grads or {name: p.grad.clone() for name, p in learned.items() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append((sum(loss).item(), loss.maps.item(), loss.image.item()))
    return spec["tag"], torch.tensor(losses), torch.stack(parts), grads, learned


def test_losses(trained):
    tag, losses, parts, _, _ = trained
    for column, name in enumerate(("losses", "map_losses", "image_losses")):
        close(losses[:, column], f"{tag}.{name}", 0, rtol=1e-5)
    close(parts, f"{tag}.parts", 1e-5)


def test_gradients(trained):
    tag, _, _, grads, _ = trained
    stored = {key.removeprefix(f"{tag}.grad."): key for key in STORE if key.startswith(f"{tag}.grad.")}
    assert grads.keys() == stored.keys()  # surplus deep tokens get none
    for name, key in stored.items():
        close(grads[name], key, 3e-5 * golden(key).abs().max().item())


def test_weights_after_training(trained):
    tag, _, _, _, learned = trained
    stored = {key.removeprefix(f"{tag}.after."): key for key in STORE if key.startswith(f"{tag}.after.")}
    assert stored.keys() == learned.keys()
    for name, key in stored.items():
        close(learned[name], key, 3e-6)


def test_losses_by_themselves():
    g = torch.Generator().manual_seed(META["loss_seed"])
    p = torch.randn(2, 2, 9, 11, generator=g).softmax(1)
    t = torch.rand(2, 9, 11, generator=g) > 0.7
    close(focal_loss(p, t), "loss.focal", 1e-6)
    close(dice_loss(p[:, 1], t), "loss.dice", 1e-6)


def test_every_key_is_checked():
    known = OTHERS | {f"{tag}.{key}" for tag in CASES for key in OF_A_CASE}
    known |= {f"{tag}.{key}" for tag in RUNS for key in OF_A_RUN}
    known |= {key for key in STORE for tag in RUNS if key.startswith((f"{tag}.grad.", f"{tag}.after."))}
    assert set(STORE) - known == set()
    assert {f"{tag}.{key}" for tag in CASES for key in OF_A_CASE} <= set(STORE)
