"""What the detector has to say about a dataset under test: flags -> boxes of every image."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

import torch

from filo.errors import InputError
from filo.grounding.boxes import Boxes, BoxRules, Thresholds
from filo.grounding.cache import open_cache
from filo.grounding.config import default_config, read_config
from filo.grounding.search import Request, find_boxes
from filo.meta import Entry, Meta
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
) -> Localised:
    """Find the boxes of every image as `options.add_detector_options` was answered, unless by the method's
    `rules` they mean nothing.

    Raises:
        InputError: the detector cannot be loaded, or may not run though something is missing.
    """
    kind = args.detector or ("none" if args.grounded_checkpoint is None else "groundingdino")
    if args.grounded_checkpoint == "":
        raise InputError("--grounded_checkpoint is empty: name the detector's weights, or leave it out")
    if kind != "none" and not rules.name_position and rules.outside_weight == 1:
        print("note: with neither grounding nor position boxes mean nothing, so none are looked for")
        return Localised(None, {"kind": "none"})
    if kind == "none":
        _say_what_has_no_effect(args)
        return Localised(None, {"kind": kind})
    weights, path = args.grounded_checkpoint, args.groundingdino_config or default_config()
    if kind == "groundingdino" and weights is None:
        raise InputError(
            "--detector groundingdino needs its weights: name them by --grounded_checkpoint; "
            "checkpoints/README.md says where there are some"
        )
    cache = open_cache(args.cache_dir / "boxes", weights, read_config(path), side)
    given = {name: getattr(args, f"{name}_threshold") for name in asdict(Thresholds())}
    thresholds = Thresholds(**{name: value for name, value in given.items() if value is not None})
    requests = [Request(entry.image, texts[entry.class_name].phrases) for entry in meta.entries]

    def load():
        from filo.grounding.load import load_detector  # takes seconds, and only this needs it

        return load_detector(weights, path, args.bert, side, device)

    may_run = load if kind == "groundingdino" else None
    found = find_boxes(requests, thresholds, cache, may_run, open_image, args.batch_size)
    print(
        f"boxes: {len(requests)} images in {found.seconds:.1f} s, {found.detected} of them run through the "
        f"detector, the others from {cache.folder}"
    )
    record = {"kind": kind, "thresholds": asdict(thresholds), "config": str(path)}
    record |= {name: cache.about[name] for name in ("file", "weights", "side")}
    record |= {"detected": found.detected, "seconds": round(found.seconds, 2)}
    return Localised(dict(zip(meta.entries, found.boxes, strict=True)), record)


def _say_what_has_no_effect(args: argparse.Namespace) -> None:
    given = [f"--{name}" for name in OF_DETECTOR if getattr(args, name) is not None]
    given += [f"--without {part}" for part in args.without if part in ("grounding", "position")]
    if given:
        print(f"note: without a detector {', '.join(given)} have no effect", file=sys.stderr)
