"""Evaluation: class by class, the table, and what is undefined."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from filo.class_result import ClassResult
from filo.datasets import AnomalyDataset
from filo.errors import InputError
from filo.evaluate import evaluate, format_table
from filo.meta import read_meta
from filo.methods.filo import Prediction
from filo.metrics import COLUMNS

SIDE = 16
CPU = torch.device("cpu")


class Brightness:
    """Stands for a method: the map is the red channel, the score its mean; knows nothing of classes."""

    def __init__(self):
        self.batches, self.memory = [], {}

    def look(self, images):
        return images

    def answer(self, images, class_names, boxes=None):
        self.batches.append(list(class_names))
        return answer(images[:, 0])


def answer(maps):
    """Scores are the maps' means; each image's other answers tell it from its neighbours."""
    means = maps.mean((1, 2))
    similarities = tuple(torch.tensor([mean, mean + 1]) for mean in means.tolist())
    return Prediction(means, maps, similarities, tuple(int(100 * mean) % 9 for mean in means.tolist()))


@pytest.fixture
def dataset(tmp_path):
    """Two classes of four images each; anomalies have a bright square, which is their mask."""
    rng = np.random.default_rng(0)
    test = {}
    for name in ("b_class", "a_class"):  # deliberately not sorted: the file's order counts
        rows = []
        for i in range(4):
            pixels = rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            if i % 2:
                mask[3:9, 4:10] = 255
                pixels[mask > 0] = rng.integers(90, 255)
            Image.fromarray(pixels).save(tmp_path / f"{name}{i}.png")
            Image.fromarray(mask).save(tmp_path / f"{name}{i}_mask.png")
            mask_path = f"{name}{i}_mask.png" if i % 2 else ""
            rows.append([f"{name}{i}.png", mask_path, name, "k" if i % 2 else "good", i % 2])
        keys = ("img_path", "mask_path", "cls_name", "specie_name", "anomaly")
        test[name] = [dict(zip(keys, row, strict=True)) for row in rows]
    return write(tmp_path, test)


def write(root, test):
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": test}))
    return AnomalyDataset(read_meta(root, "test"), SIDE, (0, 0, 0), (1, 1, 1))


def edit(dataset, change):
    test = json.loads((dataset.meta.root / "meta.json").read_text())["test"]
    change(test)
    return write(dataset.meta.root, test)


def test_metrics_are_those_of_scikit_learn_class_by_class(dataset):
    results = evaluate(Brightness(), dataset, 3, CPU)
    assert [r.class_name for r in results] == ["b_class", "a_class"]
    for result in results:
        samples = [dataset[i] for i, e in enumerate(dataset.entries) if e.class_name == result.class_name]
        pixels = np.concatenate([s.image[0].numpy().ravel() for s in samples])
        masks = np.concatenate([s.mask.numpy().ravel() for s in samples])
        assert result.metrics["auroc_px"] == pytest.approx(roc_auc_score(masks, pixels), abs=1e-9)
        scores = [s.image[0].mean().item() for s in samples]
        labels = [s.label for s in samples]
        assert result.metrics["auroc_sp"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert (result.normal, result.anomalous, result.notes) == (2, 2, [])


def test_batch_size_and_workers_change_nothing(dataset):
    wanted = evaluate(Brightness(), dataset, 1, CPU)
    assert evaluate(Brightness(), dataset, 3, CPU) == wanted
    assert evaluate(Brightness(), dataset, 8, CPU, workers=2) == wanted


def test_a_batch_across_classes_carries_each_images_own(dataset):
    method = Brightness()
    evaluate(method, dataset, 3, CPU)
    assert method.batches == [["b_class"] * 3, ["b_class", "a_class", "a_class"], ["a_class"] * 2]


def test_without_masks_pixel_metrics_are_undefined_and_said_so(dataset):
    dataset = edit(dataset, lambda test: test["a_class"][1].update(mask_path=""))
    first, second = evaluate(Brightness(), dataset, 4, CPU)
    assert second.metrics["auroc_sp"] is not None and first.metrics["auroc_px"] is not None
    assert [c for c in COLUMNS if second.metrics[c] is None] == [c for c in COLUMNS if not c.endswith("_sp")]
    assert second.notes == [
        "a_class has 1 anomalous images without a mask: no pixel metrics, left out of their mean"
    ]


@pytest.mark.parametrize(("label", "missing"), [(0, "anomalous"), (1, "normal")])
def test_a_class_of_one_label_has_no_image_metrics(dataset, label, missing):
    def keep(test):
        test["a_class"] = [row for row in test["a_class"] if row["anomaly"] == label]

    _, second = evaluate(Brightness(), edit(dataset, keep), 4, CPU)
    assert second.metrics["auroc_sp"] is None and second.metrics["f1_sp"] is None
    assert second.notes[0] == f"a_class has no {missing} images: no image metrics, left out of their mean"
    assert len(second.notes) == (2 if label == 0 else 1)
    assert (second.metrics["auroc_px"] is None) == (label == 0)


def test_a_value_that_is_not_finite_names_the_image(dataset):
    class Broken(Brightness):
        def answer(self, images, class_names, boxes=None):
            return answer(images[:, 0])._replace(maps=images[:, 0] * float("nan"))

    with pytest.raises(InputError, match=r"b_class0\.png is not finite"):
        evaluate(Broken(), dataset, 2, CPU)


def test_the_table_is_the_published_one():
    metrics = dict.fromkeys(COLUMNS, 0.5)
    results = [
        ClassResult("metal_nut", 1, 1, {**metrics, "auroc_px": 0.98765}, []),
        ClassResult("pill", 1, 1, {**metrics, "auroc_px": 1.0, "aupro": None, "aupro_legacy": None}, []),
    ]
    lines = format_table(results).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == [
        "objects",
        "auroc_px",
        "f1_px",
        "ap_px",
        "aupro",
        "aupro_legacy",
        "auroc_sp",
        "f1_sp",
        "ap_sp",
    ]
    assert cells[2] == ["metal nut", "98.8", "50.0", "50.0", "50.0", "50.0", "50.0", "50.0", "50.0"]
    assert cells[3] == ["pill", "100.0", "50.0", "50.0", "n/a", "n/a", "50.0", "50.0", "50.0"]
    assert cells[4] == ["mean", "99.4", "50.0", "50.0", "50.0", "50.0", "50.0", "50.0", "50.0"]
    assert len({len(line) for line in lines}) == 1


def test_a_mean_of_nothing_is_undefined_too():
    mean = format_table([ClassResult("a", 1, 0, dict.fromkeys(COLUMNS), [])]).splitlines()[-1]
    assert [cell.strip() for cell in mean.strip("|").split("|")] == ["mean"] + ["n/a"] * len(COLUMNS)


def test_blank_masks_are_named_as_the_cause(dataset):
    for path in dataset.meta.root.glob("a_class*_mask.png"):
        Image.new("L", (SIDE, SIDE)).save(path)
    _, second = evaluate(Brightness(), dataset, 4, CPU)
    assert second.metrics["auroc_px"] is None and second.metrics["auroc_sp"] is not None
    assert second.notes == [
        "a_class has no anomalous pixels at 16x16: no pixel metrics, left out of their mean"
    ]


def test_every_image_is_given_its_own_boxes(dataset):
    seen = []

    class Remembers(Brightness):
        def answer(self, images, class_names, boxes=None):
            seen.extend(boxes)
            return super().answer(images, class_names)

    boxes = {entry: f"boxes of {entry.image}" for entry in dataset.entries}
    evaluate(Remembers(), dataset, 3, CPU, boxes=boxes)
    assert seen == [boxes[entry] for entry in dataset.entries]


def test_smaller_maps_by_choice_are_the_means_of_what_falls_together(dataset):
    whole, half = (evaluate(Brightness(), dataset, 3, CPU, eval_size=size) for size in (None, SIDE // 2))
    for one, other in zip(whole, half, strict=True):
        samples = [dataset[i] for i, e in enumerate(dataset.entries) if e.class_name == one.class_name]
        maps, masks = (
            torch.stack([t.float().view(8, 2, 8, 2).mean((1, 3)) for t in tensors])
            for tensors in ([s.image[0] for s in samples], [s.mask for s in samples])
        )
        wanted = roc_auc_score((masks > 0.5).flatten().numpy(), maps.flatten().numpy())
        assert other.metrics["auroc_px"] == pytest.approx(wanted)
        assert other.metrics["auroc_sp"] == one.metrics["auroc_sp"]
    assert evaluate(Brightness(), dataset, 3, CPU, eval_size=SIDE)[0].metrics == whole[0].metrics


def test_every_image_is_reported_once_in_order_with_its_own_answers(dataset):
    seen = []
    evaluate(Brightness(), dataset, 3, CPU, observe=lambda *given: seen.append(given))
    assert [(index, entry) for index, entry, _ in seen] == list(enumerate(dataset.entries))
    for (_, _, outcome), sample in zip(seen, (dataset[i] for i in range(len(dataset))), strict=True):
        mean = sample.image[0].mean().item()
        assert torch.equal(outcome.anomaly_map, sample.image[0])
        assert outcome.score == pytest.approx(mean, rel=1e-5)
        assert outcome.similarities == pytest.approx([mean, mean + 1], rel=1e-5)
        assert outcome.position == int(100 * outcome.score) % 9


def test_curves_are_those_of_every_class(dataset):
    plain = evaluate(Brightness(), dataset, 3, CPU)
    results = evaluate(Brightness(), dataset, 3, CPU, with_curves=True)
    assert [replace(result, curves=None) for result in results] == plain
    for result in results:
        fpr, tpr = result.curves["image"]["roc"]
        assert np.trapezoid(tpr, fpr) == pytest.approx(result.metrics["auroc_sp"], abs=1e-3)
