"""Agreement with numbers of the published FADE; `FADE_GOLDEN` names another file of the form.

Every key of the file is checked: `test_every_key_is_checked` fails on one that no test knows.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import auc, precision_recall_curve
from torchvision.transforms.functional import resize

from filo.clip.gem import gem_features
from filo.clip.load import load_clip
from filo.clip.positions import resize_positions
from filo.fusion import enlarge, to_eight_bits
from filo.methods.fade import FADEModel
from filo.methods.fade_config import FADEConfig
from filo.methods.memory import nearest
from filo.metrics import class_metrics
from filo.prompts import ClassTexts
from filo.references import draw
from filo.text_models import fit_text_model
from filo.transforms import image_tensor
from tests.published_files import draw_clip

DEFAULT = Path(__file__).parent / "golden" / "fade_mini.npz"
STORE = np.load(os.environ.get("FADE_GOLDEN", DEFAULT))
META = json.loads(str(STORE["meta"]))
CASES, RUNS = ({each["tag"]: each for each in META[name]} for name in ("cases", "runs"))
CLASS, DATA = META["classname"], META["data"]
FEATURES, PLACES = ("gem", "clip"), tuple("abcdefghi")
SEEN = set()  # keys that a test has looked at


def golden(key):
    SEEN.add(key)
    return torch.from_numpy(np.asarray(STORE[key]))


def close(found, key, atol):
    found = torch.as_tensor(np.asarray(found))
    torch.testing.assert_close(found.double(), golden(key).double(), atol=atol, rtol=0)


def prompts_of(use):
    """The prompts of some files in the program's order, with their labels; the class word is in its place."""
    word, files = (CLASS, META["prompt_use"]["ac"]) if use == "ac" else ("object", META["prompt_use"]["as"])
    sides = [side for name in files for side in enumerate([*META["prompts"].values()][name])]
    return tuple((text.replace("{classname}", word), label) for label, side in sides for text in side)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    (folder / "clip.json").write_text(json.dumps(META["clip"]))
    save_file(draw_clip(META["clip"]), folder / "clip.safetensors")
    side = META["clip"]["vision_cfg"]["image_size"]
    return load_clip(str(folder / "clip.json"), str(folder / "clip.safetensors"), side)


def make(clip, **values):
    texts = ClassTexts((), (), PLACES, image_prompts=prompts_of("ac"), patch_prompts=prompts_of("as"))
    return FADEModel(clip, replace(FADEConfig(), **values), {CLASS: texts}).eval()


@pytest.mark.parametrize("grid", META["posemb_grids"])
def test_position_tables(grid, clip):
    table = resize_positions(clip.vision.visual.positional_embedding, tuple(grid), "antialiased")
    close(table, f"posemb.{grid[0]}x{grid[1]}", 1e-4)


@pytest.mark.parametrize("options", META["gem_options"], ids=lambda each: each["tag"])
def test_both_outputs_of_the_tower(options, clip):
    g = torch.Generator().manual_seed(options["seed"] * 100000 + options["h"])
    image = torch.randn(1, 3, options["h"], options["w"], generator=g)
    names = {"gem_depth": "depth", "ss_attn_iter": "iterations", "ss_attn_temp": "temperature"}
    with torch.no_grad():
        found = gem_features(
            clip.vision, image, **{ours: options[name] for name, ours in names.items() if name in options}
        )
    close(found.gem[0], f"gemopt.{options['tag']}.gem", 1e-4)
    close(found.clip[0], f"gemopt.{options['tag']}.clip", 1e-4)


@pytest.mark.parametrize("number", range(len(META["wrap"])))
def test_wrapped_prompts(number, clip):
    text = META["wrap"][number]
    ids = clip.text.tokenize([f"a photo of a {text}."])[0]
    assert ids[ids != 0].tolist() == golden(f"wrap{number}.tokens").tolist()
    close(make(clip).embed_texts([text])[0], f"wrap{number}.embedding", 1e-5)


@pytest.mark.parametrize("use", ["ac", "as"])
def test_texts(use, clip):
    prompts = prompts_of(use)
    labels = torch.tensor([label for _, label in prompts])
    found = make(clip).embed_texts([text for text, _ in prompts])
    close(found, f"text.{use}.embeddings", 1e-5)
    assert torch.equal(labels, golden(f"text.{use}.labels").long())
    close(torch.stack([found[labels == side].mean(0) for side in (0, 1)]), f"text.{use}.mean", 1e-5)


def picture(seed, side, reference=None):
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed * 100000 + side))
    if reference is None:
        return image
    g = torch.Generator().manual_seed(seed * 100000 + 1000 * (reference + 1) + side)
    return image + 0.7 * torch.randn(1, 3, side, side, generator=g)


@pytest.fixture(scope="module", params=CASES)
def case(request, clip):
    """A case, its model, and the query's tokens at every size."""
    spec = CASES[request.param]
    sizes = {name: spec[name] for name in ("segmentation_img_sizes", "classification_img_size")}
    model = make(clip, **sizes | {"segmentation_img_sizes": tuple(spec["segmentation_img_sizes"])})
    return spec, model, model.look({side: picture(spec["seed"], side) for side in model.sides})


def test_features_of_a_case(case, clip):
    spec, model, seen = case
    for side in model.sides:
        with torch.no_grad():
            raw = gem_features(clip.vision, picture(spec["seed"], side))
        for name in FEATURES:
            close(getattr(raw, name)[0, :4], f"{spec['tag']}.raw.{name}.{side}", 1e-4)
            tokens = getattr(seen[side], name)[0]
            step = max(1, (len(tokens) - 1) // 24)
            close(tokens[0], f"{spec['tag']}.{name}.{side}.cls", 1e-4)
            close(tokens[1:][::step], f"{spec['tag']}.{name}.{side}.patch", 1e-4)


@pytest.mark.parametrize("kind", ["average", "softmax", "max"])
@pytest.mark.parametrize("feature", FEATURES)
def test_language_of_a_case(feature, kind, case, clip):
    spec, model, seen = case
    tag = spec["tag"]
    own = replace(
        model.config,
        text_model_type=kind,
        language_classification_feature=feature,
        language_segmentation_feature=feature,
    )
    model = FADEModel(clip, own, model.texts)
    found, wanted = model.language_scores(seen, [CLASS]), golden(f"{tag}.ac.{kind}.{feature}")
    torch.testing.assert_close(found.logit(), wanted.logit(), atol=1e-3, rtol=0)
    grids = model.language_grids(seen, [CLASS])
    for side, grid in zip(own.segmentation_img_sizes, grids, strict=True):
        close(grid[0], f"{tag}.as.{kind}.{feature}.{side}", 1e-4)
    close(model.enlarge(grids)[0], f"{tag}.as.{kind}.{feature}.all", 1e-4)


@pytest.mark.parametrize(("kind", "atol"), [("lr", 1e-3), ("knn", 1e-4)])
def test_fitted_text_models(kind, atol, case, clip):
    spec, model, seen = case
    if not spec.get(kind, spec.get("lr")):
        pytest.skip("the file has no such model of this case")
    model = FADEModel(clip, replace(model.config, text_model_type=kind), model.texts)
    found = model.enlarge(model.language_grids(seen, [CLASS]))
    close(found[0], f"{spec['tag']}.as.{kind}.gem.all", atol)


@pytest.mark.parametrize("feature", FEATURES)
def test_vision_of_a_case(feature, case, clip):
    spec, model, seen = case
    keys = [key for key in STORE if key.startswith(f"{spec['tag']}.vis.{feature}.") and key.endswith(".all")]
    assert keys
    for key in keys:
        start = key.removesuffix(".all")
        shots, query = (int(part[-1]) for part in start.split(".")[-2:])
        use = {"use_query_img_in_vision_memory_bank": bool(query)}
        model = FADEModel(clip, replace(model.config, vision_feature=feature, **use), model.texts)
        sizes = model.config.segmentation_img_sizes
        if shots:
            shown = (range(shots), model.sides)
            model.remember(
                CLASS, {s: torch.cat([picture(spec["seed"], s, i) for i in shown[0]]) for s in shown[1]}
            )
        grids = model.vision_grids(seen, [CLASS])
        for side, grid in zip(sizes, grids, strict=True):
            close(grid[0], f"{start}.{side}", 1e-5)
        close(model.enlarge(grids)[0], key, 1e-5)
        patches = [(side // clip.patch_size) ** 2 for side in sizes]
        assert [(shots + query) * count for count in patches] == golden(f"{start}.bank_size").tolist()
        assert golden(f"{start}.kth").item() == 1 + query
        if query:  # as it is said in words: the second nearest of the joined memory
            bank = model.memory[CLASS].banks[sizes[0]] if CLASS in model.memory else None
            joined = getattr(seen[sizes[0]], feature)[:, 1:]
            both = joined[0] if bank is None else torch.cat([bank, joined[0]])
            torch.testing.assert_close(nearest(joined, both, 2)[0], grids[0].flatten(), atol=1e-6, rtol=0)


# the whole program


def enlarged(values):
    """A stored low-resolution picture as the file it stands for."""
    up = np.ones((DATA["up"], DATA["up"]) + (1,) * (values.ndim - 2), np.uint8)
    return Image.fromarray(np.kron(values, up))


def prepared(image, side, clip):
    return image_tensor(image, side, clip.mean, clip.std)


def mask_of(values, side):
    """The published program's mask: torchvision's resize with antialias, above one half."""
    pixels = torch.from_numpy((np.asarray(enlarged(values)) > 0).astype(np.float32))
    return (resize(pixels[None], [side, side], antialias=True)[0] > 0.5).numpy()


@pytest.mark.parametrize("side", DATA["check_sizes"])
def test_pictures_and_masks(side, clip):
    first = STORE["data.bad"][0]
    close(prepared(enlarged(first), side, clip)[:, ::5, ::5], f"data.image0.{side}.stride5", 1e-4)
    assert np.array_equal(mask_of(STORE["data.mask"][0], side), golden(f"data.mask0.{side}").numpy() > 0)


@pytest.fixture(scope="module", params=RUNS)
def whole(request, clip):
    """A run of the whole program: its description, the model, and the tokens of the tested pictures."""
    spec, options = RUNS[request.param], RUNS[request.param]["options"]
    names = set(FADEConfig.__dataclass_fields__) & options.keys()
    values = {name: options[name] for name in names}
    values["segmentation_img_sizes"] = tuple(map(int, options["segmentation_img_sizes"].split(",")))
    model = make(clip, **values)
    chosen = draw(len(STORE["data.train"]), options["shots"], options["seed"])
    assert [Path(each).stem for each in spec["references"]] == [f"{i:03}" for i in chosen]
    if chosen:
        shown = [enlarged(STORE["data.train"][i]) for i in chosen]
        model.remember(CLASS, batch(shown, model, clip))
    tested = [enlarged(each) for part in ("bad", "good") for each in STORE[f"data.{part}"]]
    return spec, model, batch(tested, model, clip)


def batch(images, model, clip):
    return {side: torch.stack([prepared(each, side, clip) for each in images]) for side in model.sides}


def test_a_run_image_by_image(whole):
    spec, model, images = whole
    tag, names = spec["tag"], [CLASS] * len(next(iter(images.values())))
    seen = model.look(images)
    if f"run.{tag}.language_scores" in STORE:
        close(model.language_scores(seen, names), f"run.{tag}.language_scores", 1e-4)
        close(model.enlarge(model.language_grids(seen, names)), f"run.{tag}.language_maps", 1e-4)
    if f"run.{tag}.vision_maps" in STORE:
        close(model.enlarge(model.vision_grids(seen, names)), f"run.{tag}.vision_maps", 1e-5)
    scores, maps = model.answer_floats(seen, names)
    close(scores, f"run.{tag}.scores", 1e-4)
    grid = (maps.numpy() * 255).astype(np.uint8).astype(int)
    wanted = golden(f"run.{tag}.maps_grid_uint8").numpy().astype(int)
    assert np.abs(grid - wanted).max() <= 1 and (grid != wanted).mean() <= 0.01
    found = model.predict(images, names)
    close(found.scores, f"run.{tag}.scores", 1e-4)
    eight = (found.maps * 255).round().int().numpy()[:, ::3, ::3]
    assert np.abs(eight - golden(f"run.{tag}.maps_eval_stride3").numpy().astype(int)).max() <= 1


def test_metrics_of_a_run(whole):
    spec, model, images = whole
    tag, side = spec["tag"], model.map_side
    labels = golden(f"run.{tag}.labels").numpy().astype(bool)
    found = model.predict(images, [CLASS] * len(labels))
    masks = np.zeros((len(labels), side, side), bool)
    masks[: len(STORE["data.mask"])] = [mask_of(each, side) for each in STORE["data.mask"]]
    assert masks.sum((1, 2)).tolist() == golden(f"run.{tag}.masks_eval_sum").tolist()
    ours = fade_metrics(found.scores.double().numpy(), labels, found.maps.numpy(), masks)
    wanted = dict(zip(spec["metric_names"], golden(f"run.{tag}.metrics").tolist(), strict=True))
    for name, value in wanted.items():
        atol = 1e-6 if "image" in name and "pixel" not in name else 5e-3 if "f1" in name else 1e-3
        assert ours[name] == pytest.approx(value, abs=atol), name


def fade_metrics(scores, labels, maps, masks):
    """The program's eight metrics, by ours and scikit-learn's curve."""
    shown = masks.any((1, 2))
    image = pixel = class_metrics(scores, labels, maps, masks)
    anomaly = class_metrics(scores[shown], labels[shown], maps[shown], masks[shown])
    precision, recall, _ = precision_recall_curve(labels, scores)
    found = {"full_image_auroc": image["auroc_sp"], "full_image_aupr": auc(recall, precision)}
    found |= {"full_image_f1_max": image["f1_sp"], "full_pixel_auroc": pixel["auroc_px"]}
    found |= {"full_pixel_f1_max": pixel["f1_px"], "full_pixel_au_pro": pixel["aupro"]}
    return found | {"anomaly_pixel_auroc": anomaly["auroc_px"], "anomaly_pixel_f1_max": anomaly["f1_px"]}


def test_metrics_by_themselves():
    inputs = (golden(f"metrics.{name}").numpy() for name in ("image_scores", "image_labels", "maps", "masks"))
    scores, labels, maps, masks = inputs
    found = fade_metrics(scores, labels.astype(bool), maps, masks.astype(bool))
    wanted = {name: golden(f"metrics.{name}").item() for name in found}
    assert found == pytest.approx(wanted, abs=1e-6)
    assert found["full_pixel_au_pro"] == pytest.approx(
        golden("metrics.aupro_bruteforce_8conn").item(), abs=1e-6
    )
    fpr, pro = (golden(f"metrics.pro_curve_{name}").numpy() for name in ("fpr", "pro"))
    low = fpr <= 0.3
    x = np.concatenate([[0], fpr[low], [0.3]])
    y = np.concatenate([[0], pro[low], [np.interp(0.3, fpr, pro)]])
    assert auc(x, y) / 0.3 == pytest.approx(found["full_pixel_au_pro"], abs=1e-6)
    other = golden("metrics.aupro_bruteforce_4conn").item()  # regions that touch at corners are one
    assert abs(other - found["full_pixel_au_pro"]) > 1e-6


def test_references_are_drawn_as_published():
    for count in META["sampling"]["n"]:
        rows = golden(f"sampling.{count}").tolist()
        for seed, wanted in zip(META["sampling"]["seeds"], rows, strict=True):
            assert draw(count, META["sampling"]["shots"], seed) == wanted


def test_grids_are_enlarged_as_published():
    grid = golden("resize.in")[None]
    close(enlarge([grid], META["resize"]["to"])[0], "resize.float", 1e-9)
    found = to_eight_bits(grid, META["resize"]["eval"])[0].astype(int)
    assert np.abs(found - golden("resize.uint8").numpy().astype(int)).max() <= 1


def test_text_models_do_not_depend_on_the_order_of_texts_but_for_fitted_ones():
    g = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(12, 8, generator=g).double(), dim=-1)
    labels, x = torch.arange(12) % 2, texts[:3].float()
    for kind in ("average", "softmax", "max"):
        one, other = fit_text_model(kind, texts, labels), fit_text_model(kind, texts.flip(0), labels.flip(0))
        torch.testing.assert_close(one(x), other(x))


def test_every_key_is_checked():
    """Stands last: by now every key was asked for, but for the pictures, which are read directly."""
    pictures = {"meta", *(f"data.{name}" for name in ("train", "good", "bad", "mask"))}
    assert set(STORE) - SEEN - pictures == set()
