"""What the detector has to say about images: flags -> which detector, images -> their boxes."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from filo.errors import ImageError, InputError
from filo.grounding.boxes import Boxes, BoxRules, Thresholds, select
from filo.grounding.cache import open_cache
from filo.grounding.config import default_config, read_config
from filo.grounding.detector import GroundingDino
from filo.grounding.search import Request, find_boxes
from filo.meta import Entry, Meta
from filo.processes import ALONE, Processes
from filo.prompts import ClassTexts
from filo.transforms import open_image

OF_DETECTOR = (
    "grounded_checkpoint",
    "groundingdino_config",
    "bert",
    "box_threshold",
    "text_threshold",
    "area_threshold",
)


@dataclass(frozen=True)
class Choice:
    """Which detector is asked: what `options.add_detector_options` asks for, as data.

    Attributes:
        kind: `groundingdino` runs it where its answer is not kept yet, `cached` never, `none` does without
        weights: a file, or `drawn:SEED`; None for `cached` means the only one there are answers of
        config, bert: None for the package's SwinT-OGC and for the hub's vocabulary
        folder: where its answers are kept
    """

    kind: str = "none"
    weights: str | None = None
    config: Path | None = None
    bert: Path | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    folder: Path = Path("cache/boxes")


def choose_detector(args: argparse.Namespace, without: Sequence[str] = ()) -> Choice:
    """Read the detector's flags; `without` are parts of the method that are switched off. Says so where
    something has no effect.

    Raises:
        InputError: a detector is to run, and nothing says which.
    """
    kind = args.detector or ("none" if args.grounded_checkpoint is None else "groundingdino")
    if args.grounded_checkpoint == "":
        raise InputError("--grounded_checkpoint is empty: name the detector's weights, or leave it out")
    if kind == "groundingdino" and args.grounded_checkpoint is None:
        raise InputError(
            "--detector groundingdino needs its weights: name them by --grounded_checkpoint; "
            "checkpoints/README.md says where there are some"
        )
    if kind == "none":
        _say_what_has_no_effect(args, without)
    given = {name: getattr(args, f"{name}_threshold") for name in asdict(Thresholds())}
    thresholds = Thresholds(**{name: value for name, value in given.items() if value is not None})
    where = (args.grounded_checkpoint, args.groundingdino_config, args.bert)
    return Choice(kind, *where, thresholds, args.cache_dir / "boxes")


def _say_what_has_no_effect(args: argparse.Namespace, without: Sequence[str]) -> None:
    given = [f"--{name}" for name in OF_DETECTOR if getattr(args, name) is not None]
    given += [f"--without {part}" for part in without if part in ("grounding", "position")]
    if given:
        print(f"note: without a detector {', '.join(given)} have no effect", file=sys.stderr)


class Localiser:
    """Looks for boxes in images, unless no detector is chosen or by the method's `rules` boxes mean nothing
    (`is_on`). The model is loaded when it is first needed.

    Raises:
        InputError: the weights or the config are not there.
    """

    def __init__(self, choice: Choice, rules: BoxRules, side: int, device: torch.device) -> None:
        self.choice, self.side, self.device = choice, side, device
        self.is_on = choice.kind != "none" and (rules.name_position or rules.outside_weight != 1)
        self.detected, self.seconds = 0, 0.0
        self._model: GroundingDino | None = None
        if self.is_on:
            self.config = choice.config or default_config()
            self.cache = open_cache(choice.folder, choice.weights, read_config(self.config), side)

    @property
    def record(self) -> dict:
        """What a run says of how its boxes were found."""
        if not self.is_on:
            return {"kind": "none"}
        about = {name: self.cache.about[name] for name in ("file", "weights", "side")}
        found = {"detected": self.detected, "seconds": round(self.seconds, 2)}
        thresholds = asdict(self.choice.thresholds)
        return {
            "kind": self.choice.kind,
            "identity": self.cache.folder.name,
            "thresholds": thresholds,
            "config": str(self.config),
            **about,
            **found,
        }

    def find(
        self,
        requests: Sequence[Request],
        open_image: Callable[[Path], Image.Image],
        batch_size: int,
        has_bar: bool = False,
    ) -> list[Boxes]:
        """Give the boxes of images on disk, in order; what is found is kept there too.

        Raises:
            ImageError: an image cannot be read, or the detector cannot look at it.
            InputError: the detector cannot be loaded, or may not run though something is missing.
        """
        load = self._load if self.choice.kind == "groundingdino" else None
        thresholds = self.choice.thresholds
        found = find_boxes(requests, thresholds, self.cache, load, open_image, batch_size, has_bar)
        self.detected += found.detected
        self.seconds += found.seconds
        return found.boxes

    def look_at(self, image: Image.Image, phrases: Sequence[str]) -> Boxes:
        """Give the boxes of an image in memory (RGB), which are not kept.

        Raises:
            ImageError: the detector cannot look at it.
            InputError: the detector may not run, or cannot be loaded.
        """
        if self.choice.kind == "cached":
            raise InputError("an image in memory has no boxes on disk: give its path, or run the detector")
        model = self._load()
        if misfit := model.explain_misfit(image.size):
            raise ImageError(misfit)
        self.detected += 1
        return select(model.detect([image], phrases)[0], self.choice.thresholds)

    def _load(self) -> GroundingDino:
        if self._model is None:
            from filo.grounding.load import load_detector  # takes seconds, and only this needs it

            where = (self.choice.weights, self.config, self.choice.bert)
            self._model = load_detector(*where, self.side, self.device)
        return self._model


class Localised(NamedTuple):
    """Boxes by image, None without a detector, and what results.json says of how they were found."""

    boxes: dict[Entry, Boxes] | None
    record: dict


def localise(
    args: argparse.Namespace,
    meta: Meta,
    texts: Mapping[str, ClassTexts],
    rules: BoxRules,
    side: int,
    device: torch.device,
    us: Processes = ALONE,
) -> Localised:
    """Find the boxes of every image of a dataset as `options.add_detector_options` was answered; of several
    processes each looks at its share.

    Raises:
        InputError: the detector cannot be loaded, or may not run though something is missing.
    """
    choice = choose_detector(args, args.without)
    localiser = Localiser(choice, rules, side, device)
    if not localiser.is_on:
        if choice.kind != "none":
            print("note: with neither grounding nor position boxes mean nothing, so none are looked for")
        return Localised(None, localiser.record)
    requests = [Request(entry.image, texts[entry.class_name].phrases) for entry in meta.entries]
    boxes = us.collect(localiser.find(us.share(requests), open_image, args.batch_size, has_bar=True))
    localiser.detected = sum(us.gather(localiser.detected))
    localiser.seconds = max(us.gather(localiser.seconds))
    print(
        f"boxes: {len(requests)} images in {localiser.seconds:.1f} s, {localiser.detected} of them run "
        f"through the detector, the others from {localiser.cache.folder}"
    )
    return Localised(dict(zip(meta.entries, boxes, strict=True)), localiser.record)
