"""What a test says of itself in results.json: all that is needed to repeat its numbers, and the numbers."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from filo.all_methods import Config, method_name, preset_name
from filo.checkpoint import Checkpoint
from filo.class_result import ClassResult
from filo.logs import plain
from filo.meta import Meta
from filo.metrics import mean_metrics


def describe(
    args: argparse.Namespace,
    config: Config,
    checkpoint: Checkpoint,
    meta: Meta,
    results: Sequence[ClassResult],
    environment: dict,
    prompts: Mapping[str, str],
) -> dict:
    """Describe a test by test.py's arguments; `config` is the checkpoint's without what was switched off,
    `prompts` the hash of every file that its texts come from.
    """
    return {
        "command": shlex.join(["python", *sys.argv]),
        "arguments": plain(vars(args)),
        "method": method_name(config),
        "preset": preset_name(checkpoint.config),
        "without": args.without,
        "config": asdict(config),
        "classes": {
            r.class_name: {"normal": r.normal, "anomalous": r.anomalous, **r.metrics} for r in results
        },
        "mean": mean_metrics([result.metrics for result in results]),
        "notes": [note for result in results for note in result.notes],
        "images": len(meta.entries),
        "hashes": {
            "checkpoint": checkpoint.sha256,
            "clip_weights": checkpoint.clip["sha256"],
            "meta.json": meta.sha256,
            "prompts": dict(prompts),
        },
        "trained": checkpoint.provenance,
        "seed": args.seed,
        "environment": environment,
    }
