"""Agreement with numbers of the published program; `FILO_GOLDEN` names another file of the same form.

Every key of the file is checked: `test_every_key_is_checked` fails on one that no test knows.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from filo.clip.load import load_clip
from filo.losses import dice_loss, focal_loss
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import FiLoConfig
from filo.metrics import class_metrics
from filo.prompts import FOLDER, fill_texts
from filo.published import list_names
from tests.published_files import draw_clip, drawn

DEFAULT = Path(__file__).parent / "golden" / "filo_mini.npz"
STORE = np.load(os.environ.get("FILO_GOLDEN", DEFAULT))
META = json.loads(str(STORE["meta"]))
CASES = {case["tag"]: case for case in META["cases"]}
TEMPLATES = json.loads((FOLDER / "templates.json").read_text())
TEXTS = {
    c: fill_texts(TEMPLATES, "official", c.replace("_", " "), d) for c, d in META["descriptions"].items()
}
METRICS = ("auroc_px", "ap_px", "f1_px", "auroc_sp", "ap_sp", "f1_sp", "aupro_legacy", "aupro_exact")


def golden(key):
    return torch.from_numpy(np.asarray(STORE[key]))


def close(found, key, atol=1e-4):
    torch.testing.assert_close(found.detach(), golden(key), atol=atol, rtol=0, check_dtype=False)


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory):
    """The golden CLIP as a config file and a weights file, to be loaded as a user loads his."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "clip.json").write_text(json.dumps(META["clip"]))
    save_file(draw_clip(META["clip"]), folder / "clip.safetensors")
    return str(folder / "clip.json"), str(folder / "clip.safetensors")


@pytest.fixture(scope="module")
def build(clip_files):
    clips = {}

    def build(image_size, n_ctx):
        config = FiLoConfig(features_list=tuple(META["features_list"]), n_ctx=n_ctx)
        if image_size not in clips:
            clips[image_size] = load_clip(*clip_files, image_size, config.activation)
        model = FiLoModel(clips[image_size], config, TEXTS)
        shapes = {name: tuple(t.shape) for name, t in model.trained_state().items()}
        names = list_names(config)
        model.load_trained_state({n: drawn(names[n], s) for n, s in shapes.items()})
        return model

    return build


def picture(seed, side):
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=CASES)
def case(request, build):
    """A case's tag, its model, its class and position, and the image features."""
    spec = CASES[request.param]
    model = build(spec["image_size"], spec["n_ctx"])
    positions = [TEMPLATES["positions"].index(position) for position in spec["positions"] or []]
    features = model.image_features(picture(spec["seed"], spec["image_size"]))
    return spec["tag"], model, ([spec["class"]], [positions]), features


def test_global_feature(case):
    tag, _, _, features = case
    close(features.image, f"{tag}.global")


def test_patch_tensors(case):
    """The program's order alternates: qkv6, vv12, ori12, vv18, ori18, vv24, ori24."""
    tag, _, _, features = case
    order = [features.ordinary[0]]
    for vv, ordinary in zip(features.vv, features.ordinary[1:], strict=True):
        order += [vv, ordinary]
    close(torch.stack([tokens[0, :8] for tokens in order]), f"{tag}.patch_first8")


@pytest.mark.parametrize("adapted", [0, 1])
def test_similarities_with_and_without_adapter(case, adapted):
    tag, model, wanted, features = case
    image = model.global_feature(features, adapted=bool(adapted))
    text = model.text_features(image, *wanted)
    close(image[:, None] @ text.transpose(1, 2), f"{tag}.probs.adapter{adapted}")


def test_maps_and_score(case):
    tag, model, wanted, features = case
    image = model.global_feature(features, adapted=True)
    with torch.no_grad():
        text = model.text_features(image, *wanted)
        maps = model.probability_maps(features, text)
        merged = model.anomaly_map(maps)
    close(torch.stack(maps)[..., ::7, ::7], f"{tag}.maps_stride7")
    close(torch.stack(maps).mean((-2, -1)), f"{tag}.maps_mean")
    close(merged[:, ::7, ::7], f"{tag}.final_stride7")
    close(model.image_scores(image, text, merged)[0], f"{tag}.score")
    spec = CASES[tag]
    prediction = model.predict(picture(spec["seed"], spec["image_size"]), *wanted)
    close(prediction.scores[0], f"{tag}.score")
    close(prediction.maps[:, ::7, ::7], f"{tag}.final_stride7")


@pytest.fixture(scope="module")
def trained(build):
    """Both stages of training, step by step: losses, first gradients, weights after each stage."""
    spec, model = META["train"], build(META["train"]["image_size"], META["train"].get("n_ctx", 12))
    model.train()
    groups = model.trained_parameters()
    rates = [{"params": groups["decoder"], "lr": 1e-4}, {"params": groups["prompts"], "lr": 1e-3}]
    optimizer = torch.optim.AdamW(rates, betas=(0.5, 0.999))
    losses, grads, after = [], {}, {}

    def features(seed):
        return model.image_features(picture(seed, spec["image_size"]))

    names = list_names(model.config)
    for image_seed, mask_seed, class_name in spec["steps"]:
        masks = picture(mask_seed, spec["image_size"])[:, 0] > 1
        loss = model.local_loss(features(image_seed), [class_name], masks)
        optimizer.zero_grad()
        loss.backward()
        grads = grads or {names[n]: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        losses.append(loss.item())
    after = {names[n]: t.clone() for n, t in model.trained_state().items()}
    optimizer = torch.optim.AdamW(groups["adapter"], lr=1e-5, betas=(0.5, 0.999))
    adapter_losses = []
    for image_seed, label, class_name in spec["adapter_steps"]:
        loss = model.global_loss(features(image_seed), [class_name], torch.tensor([label]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        adapter_losses.append(loss.item())
    final = {names[n]: t for n, t in model.trained_state().items()}
    return losses, grads, after, adapter_losses, final


def test_losses_of_both_stages(trained):
    losses, _, _, adapter_losses, _ = trained
    np.testing.assert_allclose(losses, STORE["train.losses"], rtol=1e-4)
    np.testing.assert_allclose(adapter_losses, STORE["adapter.losses"], rtol=1e-4)


@pytest.mark.parametrize("key", [k for k in STORE if k.startswith("train.grad.")])
def test_first_gradients(trained, key):
    wanted = STORE[key]
    found = trained[1][key.removeprefix("train.grad.")].flatten()[: wanted.size].numpy()
    assert np.abs(found - wanted.flatten()).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("key", [k for k in STORE if k.startswith("train.after.")])
def test_weights_after_stage_one(trained, key):
    name = key.removeprefix("train.after.")
    found = trained[2][name].flatten()[: STORE[key].size].view(STORE[key].shape)
    # what rounding leaves grows with the learning rate, ten times as high for the prompt learners
    close(found, key, atol=3e-8 if name.startswith("decoder") and name.endswith("bias") else 3e-7)


def test_adapter_after_stage_two(trained):
    close(trained[4]["adapter.fc.0.weight"].flatten()[:200], "adapter.after.fc0_first200", atol=5e-7)


def test_losses_by_themselves():
    g = torch.Generator().manual_seed(META["train"]["loss_seed"])
    p = torch.randn(2, 2, 9, 11, generator=g).softmax(1)
    t = torch.rand(2, 9, 11, generator=g) > 0.7
    torch.testing.assert_close(focal_loss(p, t), golden("loss.focal"), rtol=1e-4, atol=0)
    torch.testing.assert_close(dice_loss(p[:, 1], t), golden("loss.dice"), rtol=1e-4, atol=0)


def test_prompt_token_ids(build):
    first = META["cases"][0]
    tower, texts = build(first["image_size"], first["n_ctx"]).clip.text, TEXTS[first["class"]]
    for kind, found in (("normal", texts.normal), ("abnormal", texts.abnormal)):
        assert tower.tokenize(found, first["n_ctx"]).tolist() == STORE[f"prompts.{kind}"].tolist()


def test_metrics():
    inputs = [STORE[f"metrics.{name}"] for name in ("image_scores", "image_labels", "maps", "masks")]
    found = class_metrics(inputs[0], inputs[1].astype(bool), inputs[2], inputs[3].astype(bool))
    found["aupro_exact"] = found["aupro"]
    wanted = {name: float(STORE[f"metrics.{name}"]) for name in METRICS}
    assert {name: found[name] for name in METRICS} == pytest.approx(wanted, abs=1e-6)


def test_every_key_is_checked():
    of_a_case = ("global", "patch_first8", "probs.adapter0", "probs.adapter1", "maps_stride7", "maps_mean")
    known = {f"{tag}.{key}" for tag in CASES for key in (*of_a_case, "final_stride7", "score")}
    known |= {"meta", "train.losses", "adapter.losses", "adapter.after.fc0_first200"}
    known |= {"loss.focal", "loss.dice"}
    known |= {"prompts.normal", "prompts.abnormal"} | {f"metrics.{name}" for name in METRICS}
    known |= {f"metrics.{name}" for name in ("maps", "masks", "image_labels", "image_scores")}
    known |= {key for key in STORE if key.startswith(("train.grad.", "train.after."))}
    assert set(STORE) - known == set()
