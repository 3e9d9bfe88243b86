"""Ask a trained FiLo or AnomalyCLIP about images, from Python.

from filo import FiLo

filo = FiLo.load("checkpoints/filo_visa/filo.safetensors")
result = filo.predict("bracket.jpg", "metal bracket")
result.score, result.kinds[:1], result.position
result.heatmap().save("bracket_heatmap.jpg")
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import overload

import torch
from PIL import Image

from filo.all_methods import TRAINED, make_model, method_name
from filo.checkpoint import Checkpoint, load_checkpoint
from filo.clip.load import CLIP
from filo.decisions import UNTRAINED, Decisions, decisions_path, describe_scoring, read_decisions
from filo.errors import ImageError, InputError
from filo.evaluate import Outcome, require_finite, unpack
from filo.few_shot import References, remember
from filo.files import readable, sha256_of
from filo.grounding.boxes import Boxes
from filo.grounding.search import Request
from filo.localise import Choice, Localiser
from filo.logs import pick_device
from filo.methods.few_shot import FewShot
from filo.naming import NamedClass, find_class
from filo.pictures import ImageLike, Picture, to_picture
from filo.plots import NATURAL, Scale
from filo.precision import DTYPES
from filo.prompts import ClassTexts
from filo.records import describe_boxes, rank_kinds
from filo.result import Result
from filo.trained_clip import load_trained_clip
from filo.views import Images, move_images, stack_images


def _introduce(known: NamedClass) -> None:
    """Say on stderr where the texts of a class come from, unless the user said it."""
    if known.note:
        print(f"note: {known.note}", file=sys.stderr)
    elif known.found_in:
        file = f"{known.found_in.parent.name}/{known.found_in.name}"
        print(f"note: class {known.name}: described in {file}", file=sys.stderr)


class FiLo:
    """A trained FiLo, or AnomalyCLIP, with its CLIP, to be asked about images; `load` makes one.

    Texts of a class are read when it is first asked for: from `prompts`, else from the one file of the folder
    prompts/ that has it, else only the general states are looked for, which is said on stderr.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        clip: CLIP,
        detector: Choice,
        decisions: Decisions,
        prompts: Sequence[Path],
        device: torch.device,
        references: References | None = None,
        fill: Callable[[str], ClassTexts] | None = None,
    ) -> None:
        self.checkpoint, self.clip, self.decisions, self.device = checkpoint, clip, decisions, device
        self.references, self.fill = references, fill
        self.shown: dict[str, dict[str, str]] = {}  # of each class the references' files and their hashes
        self.config, self.prompts = checkpoint.config, tuple(prompts)
        self.localiser = Localiser(detector, self.config.boxes, clip.image_size, device)
        self.model = make_model(clip, self.config, {})
        self.model.load_trained_state(checkpoint.state)
        if references and method_name(self.config) in TRAINED:
            self.model = FewShot(self.model)
        self.model.to(device).eval()
        self.classes: dict[str, NamedClass] = {}  # by the name they were asked for
        self.scale: Scale | None = None  # of heatmaps; None: the calibrated one, else the natural one

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | Checkpoint,
        *,
        clip_model: str | None = None,
        clip_pretrained: str | None = None,
        image_size: int | None = None,
        features_list: Sequence[int] | None = None,
        asked: Mapping[str, object] | None = None,
        prompts: Sequence[str | Path] = (),
        grounded_checkpoint: str | Path | None = None,
        detector: Choice | None = None,
        decisions: str | Path | None = None,
        device: str | None = None,
        precision: str = "fp32",
        references: References | None = None,
        fill: Callable[[str], ClassTexts] | None = None,
    ) -> "FiLo":
        """Load a checkpoint of train.py, or a published one, and the CLIP it was trained on.

        In its place stands what `filo.untrained.make_checkpoint` gives, of a method that is not trained;
        `fill` then makes its texts from a class's spoken name. `references` are normal images to be shown.

        `clip_model`, `clip_pretrained`, `image_size`, `features_list` and `prompts` are those of test.py;
        `asked` are more of its flags by name, such as {"sigma": 2.0} for AnomalyCLIP.
        `grounded_checkpoint` is a file of Grounding DINO's weights; `detector` says more of it. Thresholds
        are read from `decisions`, by default `<checkpoint>.decisions.json` beside the checkpoint.
        `precision` is "fp32", "bf16" or "fp16".

        Raises:
            InputError: something is missing, damaged, or of another model.
        """
        if precision not in DTYPES:
            raise InputError(f"precision {precision!r}: wanted {', '.join(DTYPES)}")
        where = pick_device(device)
        if isinstance(checkpoint, Checkpoint):
            found, path = checkpoint, UNTRAINED / method_name(checkpoint.config)
        else:
            path = Path(checkpoint)
            found = load_checkpoint(path, features_list, asked)
        clip = load_trained_clip(path, found, clip_model, clip_pretrained, image_size, where)
        clip.set_precision(precision)
        if clip.image_size != (trained := found.clip["image_size"]):
            print(f"note: looking at {clip.image_size} pixels, trained at {trained}", file=sys.stderr)
        kind = "none" if grounded_checkpoint is None else "groundingdino"
        choice = detector or Choice(kind, None if kind == "none" else str(grounded_checkpoint))
        if decisions and not Path(decisions).is_file():
            raise InputError(f"{decisions}: no such file of thresholds; `python -m filo.calibrate` makes one")
        thresholds = read_decisions(Path(decisions) if decisions else decisions_path(path))
        files = [Path(each) for each in prompts]
        return cls(found, clip, choice, thresholds, files, where, references, fill)

    @overload
    def predict(self, images: ImageLike, class_name: str, batch_size: int = 8) -> Result: ...

    @overload
    def predict(self, images: Sequence[ImageLike], class_name: str, batch_size: int = 8) -> list[Result]: ...

    def predict(self, images, class_name, batch_size=8):
        """Look at one image, or at a list of images, of one class.

        An image is a path, a PIL image, an array (H, W, 3) of uint8 in RGB, or a tensor (3, H, W), not
        normalised; `to_picture` lists all forms. `class_name` is how an object is called, such as
        "metal bracket", or its key in a prompt file. Gives one `Result`, or a list of them in order; what a
        batch gives is what its images give one by one, up to rounding.

        Raises:
            ImageError: an image cannot be read or used.
            InputError: nothing says what the class is.
        """
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size}: wanted at least 1")
        if not isinstance(images, (list, tuple)):
            return self._predict([to_picture(images)], class_name, 1)[0]
        pictures = [to_picture(image, f"images[{i}]") for i, image in enumerate(images)]
        return self._predict(pictures, class_name, batch_size)

    def _predict(self, pictures: Sequence[Picture], class_name: str, batch_size: int) -> list[Result]:
        self.know(class_name)  # however few images there are
        results = []
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            results += self.judge(batch, class_name)
            for picture in batch:
                picture.close()
        return results

    def know(self, class_name: str) -> NamedClass:
        """Find out what is meant by a class name, and say on stderr from where, or if that is not much.

        Raises:
            InputError: there is no name, it is too long, or several classes answer to it.
        """
        if not isinstance(class_name, str):
            raise InputError(
                f"the class is {class_name!r}: say what the images show, such as 'metal bracket'"
            )
        if class_name not in self.classes:
            found = find_class(class_name, self.prompts, self.config, self.fill)
            if found.name not in self.model.texts:
                self._require_short(found)
                _introduce(found)
            self.model.texts[found.name] = found.texts
            self._show(found.name)
            self.classes |= {class_name: found, found.name: found}
        return self.classes[class_name]

    def _show(self, name: str) -> None:
        """Show the method its references of a class, where there are any.

        Raises:
            InputError: the folder has none of it.
        """
        if self.references is None or name in self.shown:
            return
        paths = self.references.find(name)
        remember(self.model, {name: paths}, self._prepare, self.device)
        self.shown[name] = {readable(path): sha256_of(path) for path in paths}

    def _prepare(self, image: Image.Image) -> Images:
        return self.model.view(image, self.clip.mean, self.clip.std)

    def _require_short(self, known: NamedClass) -> None:
        """Raise `InputError` if a text of the class is longer than what CLIP reads."""
        n_ctx = self.config.n_ctx if self.config.learned_template else 0
        try:
            self.clip.text.tokenize([*known.texts.normal, *known.texts.abnormal_at(())], n_ctx)
        except InputError as error:
            if known.texts.kinds:
                raise
            begin = known.name if len(known.name) <= 60 else f"{known.name[:57]}..."
            raise InputError(
                f"the class name {begin!r} is too long ({len(known.name)} characters): with it a text needs "
                f"more than the {self.clip.text.context_length} tokens of CLIP's context; use fewer words"
            ) from error

    def scoring(self, names: Iterable[str] | None = None) -> dict:
        """What scores depend on beside the image (`filo.decisions`), for some classes or all known ones."""
        config, clip, known = self.config, self.clip, self.model.texts
        texts = {name: known[name] for name in (known if names is None else names)}
        about = (self.checkpoint.sha256, config, clip.image_size, clip.precision, ())
        return describe_scoring(*about, self.localiser.record, texts, self.shown)

    @property
    def heatmap_scale(self) -> Scale:
        """The one scale of all heatmaps: the one that was set, else the calibrated one, else 0 to 1."""
        return self.scale or self.decisions.find_scale(self.scoring(())) or NATURAL

    def threshold(self, class_name: str) -> tuple[float | None, str]:
        """Give a class's threshold and "", or None and why there is none."""
        name = self.know(class_name).name
        return self.decisions.find(name, self.scoring([name]))

    def judge(self, pictures: Sequence[Picture], class_name: str) -> list[Result]:
        """Look at a batch of one class; the pictures stay open.

        Raises:
            ImageError: one of them cannot be read or used; which one, its message says.
        """
        known = self.know(class_name)
        images = stack_images([self._prepare(picture.open()) for picture in pictures])
        boxes = self._find_boxes(pictures, known.texts.phrases)
        images = move_images(images, self.device)
        answer = self.model.predict(images, [known.name] * len(pictures), boxes=boxes)
        threshold, scale = self.threshold(class_name), self.heatmap_scale
        return [
            self._result(picture, known, outcome, of_image, threshold, scale)
            for picture, outcome, of_image in zip(
                pictures, unpack(answer), boxes or [None] * len(pictures), strict=True
            )
        ]

    def _find_boxes(self, pictures: Sequence[Picture], phrases: Sequence[str]) -> list[Boxes] | None:
        if not self.localiser.is_on:
            return None
        if all(picture.path for picture in pictures):
            opened = {picture.path: picture for picture in pictures}
            requests = [Request(picture.path, tuple(phrases)) for picture in pictures]
            return self.localiser.find(requests, lambda path: opened[path].open(), len(pictures))
        return [self._find_boxes_of_one(picture, phrases) for picture in pictures]

    def _find_boxes_of_one(self, picture: Picture, phrases: Sequence[str]) -> Boxes:
        if picture.path:
            return self._find_boxes([picture], phrases)[0]
        try:
            return self.localiser.look_at(picture.open(), phrases)
        except ImageError as error:
            raise ImageError(f"{picture.name}: {error}") from error

    def _result(
        self,
        picture: Picture,
        known: NamedClass,
        outcome: Outcome,
        boxes: Boxes | None,
        threshold: tuple[float | None, str],
        scale: Scale,
    ) -> Result:
        try:
            require_finite(outcome, Path(picture.name))
        except InputError as error:
            raise ImageError(str(error)) from error
        size = picture.open().size
        return Result(
            known.name,
            outcome.score,
            *threshold,
            round(outcome.similarities[0], 6),
            rank_kinds(known.texts, outcome.similarities),
            known.texts.positions[outcome.position],
            describe_boxes(boxes, known.texts, self.config.boxes, size),
            size,
            outcome.anomaly_map.numpy(),
            scale,
            picture,
        )
