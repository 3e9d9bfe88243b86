"""What is measured: one thing each, done our way and the plain way, with what both must agree on.

A case is a function that gives two ways to do something with a model; each way is called several times and
gives a list of arrays. Only one of them is used in a process, so that its memory can be told.
"""

from collections.abc import Callable

import numpy as np

from filo.bench import of_anomalyclip, of_filo, plain
from filo.bench.setting import Bench, Way, Ways
from filo.metrics import class_metrics


def metrics(bench: Bench) -> Ways:
    """All metrics of one class; exact AUPRO is not compared, as the plain way has the estimate alone."""
    count, side = bench.metrics_size
    rng = np.random.default_rng(3)
    maps = rng.random((count, side, side), np.float32)
    masks = np.zeros((count, side, side), bool)
    for mask in masks[count // 4 :]:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, side * 3 // 4, 2)
            mask[y : y + side // 8, x : x + side // 6] = True
    maps += 0.4 * masks
    labels = masks.any((1, 2))
    scores = maps.max((1, 2))
    names = [f"{name}_{kind}" for kind in ("px", "sp") for name in ("auroc", "f1", "ap")] + ["aupro_legacy"]

    def way(compute: Callable[..., dict]) -> Way:
        def run() -> list[np.ndarray]:
            found = compute(scores, labels, maps, masks)
            return [np.array([found[name] for name in names])]

        return run

    return Ways(way(class_metrics), way(plain.class_metrics))


CASES = {
    case.__name__: case
    for case in (
        *(of_filo.text, of_filo.mmci, of_filo.tower, of_filo.tower_bf16, of_filo.image, of_filo.image_bf16),
        *(of_filo.train_step, of_filo.train_step_cached, of_filo.adapter_step_cached),
        of_anomalyclip.anomalyclip_image,
        *(of_anomalyclip.anomalyclip_epoch, of_anomalyclip.anomalyclip_epoch_cached),
        metrics,
    )
}
WITHOUT_MODEL = ("metrics",)
