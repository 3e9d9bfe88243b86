"""Agreement with numbers of the third-party WinCLIP program; `WINCLIP_GOLDEN` names another file of the form.

Every key of the file is checked: `test_every_key_is_checked` fails on one that no test knows.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from filo.clip.load import load_clip
from filo.clip.windows import window_patches
from filo.ensembles import find_ensemble, read_texts
from filo.methods.winclip import SIDES, WinCLIPConfig, WinCLIPModel, spread
from filo.prompts import ClassTexts
from filo.transforms import image_tensor
from tests.published_files import draw_clip

DEFAULT = Path(__file__).parent / "golden" / "winclip_mini.npz"
STORE = np.load(os.environ.get("WINCLIP_GOLDEN", DEFAULT))
META = json.loads(str(STORE["meta"]))
CLASSES = META["data"]["classes"]
RUNS = {run["tag"]: run for run in META["runs"]}
OF_A_CLASS = [f"data.{name}.{part}" for name in CLASSES for part in ("train", "test", "mask")]
TESTS = [STORE[f"data.{name}.test"] for name in CLASSES]  # of each class the last picture is normal


def golden(key):
    return torch.from_numpy(np.asarray(STORE[key]))


def close(found, key, atol):
    torch.testing.assert_close(found.detach().double(), golden(key).double(), atol=atol, rtol=0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    (folder / "clip.json").write_text(json.dumps(META["clip"]))
    save_file(draw_clip(META["clip"]), folder / "clip.safetensors")
    side = META["clip"]["vision_cfg"]["image_size"]
    return load_clip(str(folder / "clip.json"), str(folder / "clip.safetensors"), side)


@pytest.fixture
def model(clip):
    """The preset of the program, with its own texts; class names keep their underscore there."""
    texts = {name: read_texts([find_ensemble("winclip_program")], name) for name in CLASSES}
    places = tuple(f"place {i}" for i in range(9))
    texts = {name: ClassTexts(*each, places) for name, each in texts.items()}
    return WinCLIPModel(clip, WinCLIPConfig(), texts).eval()


def pictures(clip, class_name, part):
    """Each stored pixel repeated both ways, then what a user's file goes through."""
    up = META["data"]["up"]
    large = [np.kron(each, np.ones((up, up, 1), np.uint8)) for each in STORE[f"data.{class_name}.{part}"]]
    return torch.stack(
        [image_tensor(Image.fromarray(each), clip.image_size, clip.mean, clip.std) for each in large]
    )


def all_tested(clip):
    """All tested pictures in order, and the class of each."""
    names = [name for name, of_class in zip(CLASSES, TESTS, strict=True) for _ in of_class]
    return torch.cat([pictures(clip, name, "test") for name in CLASSES]), names


@pytest.mark.parametrize("name", CLASSES)
def test_only_the_last_picture_of_a_class_has_no_anomaly(name):
    masks = golden(f"data.{name}.mask")
    assert masks.shape == golden(f"data.{name}.test").shape[:3]
    assert masks.flatten(1).any(1).tolist() == [True] * (len(masks) - 1) + [False]


@pytest.mark.parametrize("name", SIDES)
def test_windows_hold_the_patches_of_the_program(name, clip):
    grid = clip.image_size // clip.patch_size
    found = window_patches(grid, grid, SIDES[name]).T + 1
    assert torch.equal(found, golden(f"masks.{name}").long())


def test_features(model, clip):
    images, _ = all_tested(clip)
    seen = model.look(images)
    close(seen.image, "tokens.class", 1e-4)
    close(seen.patches[:2, ::9], "tokens.patch.stride9", 1e-4)
    for name in SIDES:
        close(seen.windows[name][:2, ::7], f"tokens.{name}.stride7", 1e-4)


@pytest.mark.parametrize("name", CLASSES)
def test_texts(name, model):
    normal, abnormal = model.text_pair(name)
    close(normal, f"text.{name}.mean_normal", 1e-5)
    close(abnormal, f"text.{name}.mean_abnormal", 1e-5)


def test_scores_and_maps_of_windows(model, clip):
    images, names = all_tested(clip)
    seen = model.look(images)
    pair = torch.stack([model.text_pair(name) for name in names])
    close(model.probabilities(seen.image[:, None], pair)[:, 0], "score.image", 1e-5)
    for name in SIDES:
        scores = model.probabilities(seen.windows[name], pair)[..., 1]
        close(scores, f"score.window_{name}", 1e-5)
        close(model.spread(scores, name), f"map.{name}", 1e-5)


@pytest.mark.parametrize("tag", RUNS)
def test_a_run(tag, model, clip):
    shots = RUNS[tag]["k_shot"]
    for name in CLASSES if shots else ():
        chosen = [int(Path(each).stem) for each in RUNS[tag]["references"][name]]
        assert len(chosen) == shots
        model.remember(name, pictures(clip, name, "train")[chosen])
    images, names = all_tested(clip)
    found = model.predict(images, names)
    close(found.scores, f"run.{tag}.scores", 1e-5)
    close(found.maps[:, ::7, ::7], f"run.{tag}.map_full_stride7", 1e-5)
    grids, far = [], {f"{kind}_{name}": [] for kind in ("dist", "memory_map") for name in SIDES}
    far["dist_patch"] = []
    for image, name in zip(images, names, strict=True):
        seen = model.look(image[None])
        pair = model.text_pair(name)[None]
        windows = {side: model.probabilities(seen.windows[side], pair)[..., 1] for side in SIDES}
        grid = model.language_map(model.probabilities(seen.image[:, None], pair)[:, 0, 1], windows)
        if shots:
            distances = model.distances(seen, name)
            far["dist_patch"].append(distances["patch"])
            for side in SIDES:
                far[f"dist_{side}"].append(distances[side])
                far[f"memory_map_{side}"].append(model.spread(distances[side], side))
            grid = grid + model.vision_map(distances)
        grids.append(grid)
    close(torch.cat(grids), f"run.{tag}.map_grid", 1e-5)
    for key, parts in far.items() if shots else ():
        close(torch.cat(parts), f"run.{tag}.{key}", 1e-5)
    labels = [1 if i + 1 < len(of_class) else 0 for of_class in TESTS for i in range(len(of_class))]
    assert golden(f"run.{tag}.labels").int().tolist() == labels


@pytest.mark.parametrize("number", range(len(META["harmonic"])))
def test_the_harmonic_mean_by_itself(number):
    spec = META["harmonic"][number]
    height, width, side = spec["h"] // 16, spec["w"] // 16, spec["kernel"] // 16
    patches = window_patches(height, width, side)
    assert torch.equal(patches.T + 1, golden(f"harmonic{number}.mask").long())
    values = torch.rand(2, len(patches), generator=torch.Generator().manual_seed(spec["seed"]))
    close(spread(values, patches, height, width), f"harmonic{number}.out", 1e-9)


def test_every_key_is_checked():
    known = {"meta", "tokens.class", "tokens.patch.stride9", "score.image", *OF_A_CLASS}
    for name in SIDES:
        known |= {f"masks.{name}", f"tokens.{name}.stride7", f"score.window_{name}", f"map.{name}"}
    known |= {f"text.{name}.mean_{kind}" for name in CLASSES for kind in ("normal", "abnormal")}
    known |= {f"harmonic{i}.{part}" for i in range(len(META["harmonic"])) for part in ("mask", "out")}
    for tag, run in RUNS.items():
        known |= {f"run.{tag}.{key}" for key in ("map_grid", "map_full_stride7", "labels", "scores")}
        parts = [f"{kind}_{name}" for kind in ("dist", "memory_map") for name in SIDES] + ["dist_patch"]
        known |= {f"run.{tag}.{key}" for key in parts if run["k_shot"]}
    assert set(STORE) == known
