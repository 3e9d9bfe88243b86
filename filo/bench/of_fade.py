"""What is measured of FADE: one image from pixels to score and map, with the ensembles it has by default.

Both ways begin with the embeddings of the texts and with the references' patches. Maps are agreed on before
they are cut to 255 steps, where rounding would show as a whole step; that is done in the same way by both.
"""

from dataclasses import replace

import numpy as np

from filo.bench import plain_fade
from filo.bench.setting import CLASS, DrawnCLIP, Ways, arrays
from filo.ensembles import HYBRID, WINCLIP, find_ensemble, read_texts
from filo.methods.fade import FADEModel
from filo.methods.fade_config import PRESETS, FADEConfig
from filo.prompts import ClassTexts

LANGUAGE = replace(PRESETS["official"], classification_mode="language", segmentation_mode="language")
# what drawn weights say of drawn images is far from them all: times 3.5 every map would be cut to 1
FEW = replace(PRESETS["few-shot"], vision_segmentation_multiplier=1.0)
TINY = {"classification_img_size": 144, "segmentation_img_sizes": (144, 208), "eval_img_size": 144}


def fade_language(drawn: DrawnCLIP) -> Ways:
    """By the texts alone."""
    return _ways(drawn, LANGUAGE, 0)


def fade_1(drawn: DrawnCLIP) -> Ways:
    """By texts and one reference, with the published recipe for that but for the multiplier."""
    return _ways(drawn, FEW, 1)


def fade_4(drawn: DrawnCLIP) -> Ways:
    """The same with four references."""
    return _ways(drawn, FEW, 4)


def _ways(drawn: DrawnCLIP, config: FADEConfig, shots: int) -> Ways:
    config = replace(config, **TINY) if drawn.size == "tiny" else config
    texts = ClassTexts(
        (), (), (), image_prompts=_labelled(WINCLIP, CLASS), patch_prompts=_labelled(HYBRID, "object")
    )
    model = FADEModel(drawn.clip, config, {CLASS: texts})
    images = {side: drawn.images(1, side, seed=1) for side in model.sides}
    if shots:
        model.remember(CLASS, {side: drawn.images(shots, side, seed=2) for side in model.sides})
    embedded: list[plain_fade.Texts] = []

    def prepare() -> None:
        for prompts in (texts.image_prompts, texts.patch_prompts):
            model.text_model(prompts)

    def prepare_plainly() -> None:
        embedded.extend(plain_fade.embed(model, each) for each in (texts.image_prompts, texts.patch_prompts))

    def ours() -> list[np.ndarray]:
        return arrays(*model.answer_floats(model.look(images), [CLASS]))

    def plainly() -> list[np.ndarray]:
        return arrays(*plain_fade.predict(model, images, CLASS, *embedded))

    return Ways(ours, plainly, prepare, prepare_plainly)


def _labelled(names: tuple[str, ...], word: str) -> tuple[tuple[str, int], ...]:
    """The prompts of some ensembles with their labels."""
    sides = read_texts(map(find_ensemble, names), word)
    return tuple((text, label) for label, side in enumerate(sides) for text in side)
