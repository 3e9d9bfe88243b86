"""Small finished runs for tests of the report: as test.py and filo.predict leave them, without a model."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from filo.curves import class_curves
from filo.metrics import class_metrics, mean_metrics
from filo.records import Record, write_record, write_small

# class, file and description that would each do harm if a page took them for markup
HOSTILE = '"><img src=x onerror="hacked=1"><script>hacked=2</script>{0}&amp;\'</style>'
KINDS = ("a scratch", "a dent {class}", "rust <b>")
SIDE = 32


def make_test_run(
    run: Path, classes=("nut", HOSTILE), normal=4, anomalous=5, pictures=True, dataset="parts", **about
) -> Path:
    """Write a run of test.py; the scores of a class are those of `scores_of`."""
    run.mkdir(parents=True, exist_ok=True)
    metrics, curves, index = {}, {}, 0
    for name in classes:
        labels = np.arange(normal + anomalous) >= normal
        scores = scores_of(normal, anomalous)
        masks = np.zeros((len(labels), SIDE, SIDE), bool)
        masks[labels, 4:12, 6:20] = True
        maps = np.random.default_rng(0).random(masks.shape, np.float32) * 0.5 + 0.4 * masks
        for i, score in enumerate(scores):
            _write(run, index, name, float(score), i, maps[i], masks[i], int(labels[i]), pictures)
            index += 1
        values = class_metrics(scores, labels, maps, masks)
        metrics[name] = {"normal": normal, "anomalous": anomalous, **values}
        curves[name] = class_curves(scores, labels, maps, masks)
    columns = [{k: v for k, v in row.items() if k not in ("normal", "anomalous")} for row in metrics.values()]
    results = _about(dataset=dataset) | {"classes": metrics, "mean": mean_metrics(columns), "notes": []}
    results |= {"trained": {"dataset": "visa"}, "images": index}
    (run / "results.json").write_text(json.dumps(results | about))
    (run / "curves.json").write_text(json.dumps(curves))
    return run


def make_prediction(run: Path, names=("bracket",), images=6, pictures=True, failed=1, **about) -> Path:
    """Write a run of filo.predict; a class's first image has the score 0, the last nearly 1."""
    run.mkdir(parents=True, exist_ok=True)
    index = 0
    for name in names:
        for i in range(images):
            anomaly_map = np.random.default_rng(index).random((SIDE, SIDE), np.float32) * i / images
            _write(run, index, name, i / images, i, anomaly_map, None, None, pictures)
            index += 1
    for i in range(failed):
        record = Record(index + i, f"broken-{i}.jpg", names[0], error="cannot be read as an image")
        write_record(run, record)
    known = {"classes": {name: {"undecided": ""} for name in names}, "failed": []}
    known |= {"scale": {"low": 0.1, "high": 0.9, "origin": "the calibration"}}
    thresholds = {"thresholds": {name: 0.5 for name in names}, "decisions": "filo.decisions.json"}
    (run / "predict.json").write_text(json.dumps(_about(class_name=names[0]) | known | thresholds | about))
    return run


def scores_of(normal: int, anomalous: int) -> np.ndarray:
    """Rising scores within both sorts, of which the best threshold gets one wrong of each."""
    return np.concatenate([np.linspace(0, 0.3, normal - 1), [0.7], [0.1], np.linspace(0.6, 1, anomalous - 1)])


def _write(run, index, name, score, i, anomaly_map, mask, label, pictures) -> None:
    if pictures:
        pixels = np.random.default_rng(index).integers(60, 200, (48, 64, 3), np.uint8)
        write_small(run, index, Image.fromarray(pixels), anomaly_map, mask if label else None)
    cosines = sorted(
        ((kind, 0.2 + 0.05 * k + 0.1 * score) for k, kind in enumerate(KINDS)), key=lambda p: -p[1]
    )
    box = {"corners": [10.0, 8.0, 40.0, 24.0], "score": 0.5, "phrase": "a scratch"}
    record = Record(
        index=index,
        image=f"{i}-{'x' * (i % 3)}{HOSTILE if i == 0 else ''}.png",
        class_name=name,
        size=(640, 480),
        score=score,
        position="top left",
        normal_similarity=0.25,
        kinds=tuple(cosines),
        boxes=(box,) if i % 2 else (),
        label=label,
        kind=("scratch" if i % 2 else "dent") if label else "",
        has_mask=bool(label),
    )
    write_record(run, record)


def _about(**arguments) -> dict:
    return {
        "command": f"python test.py --data_path '{HOSTILE}'",
        "arguments": arguments,
        "seed": 0,
        "seconds": 83.5,
        "hashes": {"checkpoint": "c0ffee"},
        "environment": {"python": "3.11.7", "commit": "abc", "hardware": "AMD EPYC, 2 cores"},
    }
