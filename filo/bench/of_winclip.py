"""What is measured of WinCLIP: one image from pixels to score and map, its texts being encoded before."""

import numpy as np

from filo.bench import plain_winclip
from filo.bench.setting import CLASS, DrawnCLIP, Ways, arrays
from filo.ensembles import find_ensemble, read_texts
from filo.methods.winclip import PRESETS, WinCLIPModel
from filo.prompts import ClassTexts


def winclip_image(drawn: DrawnCLIP) -> Ways:
    """By the texts alone."""
    return _ways(drawn, 0)


def winclip_4(drawn: DrawnCLIP) -> Ways:
    """By texts and four references."""
    return _ways(drawn, 4)


def _ways(drawn: DrawnCLIP, shots: int) -> Ways:
    texts = ClassTexts(*read_texts([find_ensemble("winclip_program")], CLASS), ())
    model, side = WinCLIPModel(drawn.clip, PRESETS["official"], {CLASS: texts}), drawn.clip.image_size
    model.text_pair(CLASS)  # kept by the model, for both ways
    if shots:
        model.remember(CLASS, drawn.images(shots, side, seed=2))
    image = drawn.images(1, side, seed=1)

    def ours() -> list[np.ndarray]:
        found = model.predict(image, [CLASS])
        return arrays(found.scores, found.maps)

    return Ways(ours, lambda: arrays(*plain_winclip.predict(model, image, CLASS)))
