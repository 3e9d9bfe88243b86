"""What a prediction's folder says of it as a whole: `args.json` and `predict.json`."""

import argparse
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from filo.all_methods import method_name, preset_name
from filo.files import readable, sha256_of
from filo.logs import describe_environment, plain
from filo.predictor import FiLo
from filo.processes import Processes
from filo.summary import Summary


def arguments(args: argparse.Namespace) -> dict:
    """Give the arguments fit for JSON, which not every file name is."""
    names = {"images": [readable(Path(name)) for name in args.images]}
    names |= {"list": args.list and readable(Path(args.list)), "shard": args.shard and str(args.shard)}
    return plain(vars(args)) | names


def describe_answers(filo: FiLo) -> dict:
    """What the answers and their pictures depend on beside the images and the arguments."""
    thresholds = {each.name: filo.threshold(each.name)[0] for each in filo.classes.values()}
    about = {"CLIP weights": filo.clip.sha256, "thresholds": thresholds, "scale": asdict(filo.heatmap_scale)}
    return filo.scoring() | about


def describe_run(args: argparse.Namespace, filo: FiLo, summary: Summary, us: Processes) -> dict:
    """Everything that is needed to repeat the predictions, and what they amount to."""
    known = {each.name: each for each in filo.classes.values()}
    counts = summary.describe_classes()
    thresholds = {name: filo.threshold(name) for name in known}
    files = dict.fromkeys(path for each in known.values() for path in each.origin)
    return {
        "command": readable(Path(shlex.join(["python", "-m", "filo.predict", *sys.argv[1:]]))),
        "arguments": arguments(args),
        "method": method_name(filo.config),
        "preset": preset_name(filo.config),
        "config": asdict(filo.config),
        "classes": {
            name: {"kinds": len(each.texts.kinds), "note": each.note, "undecided": thresholds[name][1]}
            | counts[name]
            for name, each in known.items()
        },
        "thresholds": {name: value for name, (value, _) in thresholds.items() if value is not None},
        "decisions": str(filo.decisions.path),
        "scale": asdict(filo.heatmap_scale),
        **summary.describe(),
        "scoring": filo.scoring(),
        "detector": filo.localiser.record,
        "references": {name: list(shown) for name, shown in filo.shown.items()},
        "hashes": {
            "checkpoint": filo.checkpoint.sha256,
            "clip_weights": filo.checkpoint.clip["sha256"],
            "prompts": {str(path): sha256_of(path) for path in files},
        },
        "trained": filo.checkpoint.provenance,
        "environment": describe_environment(filo.device) | {"processes": us.count},
    }
