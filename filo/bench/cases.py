"""What is measured: one thing each, done our way and the plain way, with what both must agree on.

A function gives two ways to do something with what it needs, a model or none; each way is called several
times and gives a list of arrays. Only one of them is used in a process, so that its memory can be told.
"""

from collections.abc import Callable

import numpy as np

from filo.bench import of_anomalyclip, of_fade, of_filo, of_memory, of_winclip, plain
from filo.bench.setting import Bench, Case, DrawnCLIP, Place, Way, Ways
from filo.metrics import class_metrics

MAPS = {"full": (83, 518), "tiny": (20, 144)}  # how many of which side the metrics are of


def metrics(place: Place) -> Ways:
    """All metrics of one class; exact AUPRO is not compared, as the plain way has the estimate alone."""
    count, side = MAPS[place.size]
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


def _place(place: Place) -> Place:
    return place


CASES = {
    ways.__name__: Case(needs, ways)
    for needs, group in (
        (Bench, (of_filo.text, of_filo.mmci, of_filo.tower, of_filo.tower_bf16)),
        (Bench, (of_filo.image, of_filo.image_bf16)),
        (Bench, (of_filo.train_step, of_filo.train_step_cached, of_filo.adapter_step_cached)),
        (Bench, (of_anomalyclip.anomalyclip_image,)),
        (Bench, (of_anomalyclip.anomalyclip_epoch, of_anomalyclip.anomalyclip_epoch_cached)),
        (DrawnCLIP, (of_fade.fade_language, of_fade.fade_1, of_fade.fade_4)),
        (DrawnCLIP, (of_winclip.winclip_image, of_winclip.winclip_4)),
        (_place, (of_memory.memory, of_memory.memory_one, metrics)),
    )
    for ways in group
}
