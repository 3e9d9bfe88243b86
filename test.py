"""Evaluate a trained FiLo on a dataset: image and pixel metrics per class, as the published table has them.

python test.py --dataset mvtec --data_path ./data/mvtec --ckpt_path ./checkpoints/filo_visa/filo.safetensors

The architecture comes from the checkpoint. Zero-shot means that the dataset tested here is not the one
trained on.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

import torch

from filo import options
from filo.checkpoint import Checkpoint, load_checkpoint
from filo.clip.load import CLIP, load_clip
from filo.datasets import AnomalyDataset
from filo.errors import InputError, exit_clearly
from filo.evaluate import ClassResult, evaluate, format_table
from filo.files import sha256_of, write_json, write_text
from filo.logs import describe_environment, peak_memory, pick_device, plain
from filo.meta import Meta, read_meta
from filo.methods.filo import FiLo
from filo.methods.filo_config import preset_name
from filo.metrics import mean_metrics

GROUNDING = (
    "groundingdino_config",
    "grounded_checkpoint",
    "box_threshold",
    "text_threshold",
    "area_threshold",
)


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument_group("data: what it is tested on").add_argument
    add("--dataset", default="mvtec", help="name of the dataset; picks prompts/<dataset>.json")
    add("--data_path", type=Path, default=Path("./data/mvtec"), help="its root, which holds meta.json")
    options.add_prompt_option(add)

    add = parser.add_argument_group("method: what is tested").add_argument
    add("--ckpt_path", type=Path, required=True, help="a checkpoint that train.py wrote")
    add("--clip_model", help="the checkpoint's CLIP by another name or config file")
    add("--clip_pretrained", help="the checkpoint's CLIP weights at another place")
    add("--image_size", type=options.side, help="another side than in training, in pixels")
    add(
        "--features_list",
        type=options.positive,
        nargs="+",
        help="must be the checkpoint's; kept for old scripts",
    )
    add("--n_ctx", type=options.positive, help="must be the checkpoint's; kept for old scripts")

    add = parser.add_argument_group("grounding: where anomalies are looked for").add_argument
    add(
        "--detector",
        choices=("none",),
        default="none",
        help="none: all nine positions, maps are not weighted",
    )
    for name in GROUNDING:
        kind = options.rate if name.endswith("threshold") else Path
        add(f"--{name}", type=kind, help="of a detector; without one it has no effect, which is then said")

    add = parser.add_argument_group("run: where and how it runs").add_argument
    add(
        "--save_path",
        type=Path,
        help="folder for table and results (default: test_on_<dataset> beside the checkpoint)",
    )
    add("--batch_size", type=options.positive, default=1, help="images at once")
    add("--seed", type=options.seed, default=0, help="recorded; evaluation draws nothing")
    options.add_run_options(add)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = pick_device(args.device)
    torch.manual_seed(args.seed)
    checkpoint = load_checkpoint(args.ckpt_path)
    check_flags(args, checkpoint)
    meta, config = read_meta(args.data_path, "test"), checkpoint.config
    texts = options.read_prompts(args).texts(
        meta.classes, config.templates, config.share_descriptions_by_name
    )
    warn_if_seen(args, checkpoint, meta)
    folder = args.save_path or args.ckpt_path.parent / f"test_on_{args.dataset}"
    write_json(folder / "args.json", plain(vars(args)))  # first, so that hours are not lost on a bad folder
    for old in ("table.md", "results.json"):
        (folder / old).unlink(missing_ok=True)
    clip = load_matching_clip(args, checkpoint, device)
    dataset = AnomalyDataset(meta, clip.image_size, checkpoint.clip["mean"], checkpoint.clip["std"])
    model = FiLo(clip, config, texts)
    model.load_trained_state(checkpoint.state)
    model.to(device).eval()

    started = time.perf_counter()
    results = evaluate(model, dataset, args.batch_size, device, options.count_workers(args, device.type))
    seconds = time.perf_counter() - started

    table = format_table(results)
    write_text(folder / "table.md", table + "\n")
    record = describe_run(args, checkpoint, dataset, results, device)
    record |= {"seconds": round(seconds, 2), "seconds_per_image": round(seconds / len(dataset), 4)}
    write_json(folder / "results.json", record | {"peak_memory": peak_memory(device)})
    print(table)
    for note in (note for result in results for note in result.notes):
        print(f"n/a: {note}")
    print(f"{len(dataset)} images in {seconds:.1f} s; table and results: {folder}")


def check_flags(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Refuse architecture flags that contradict the checkpoint; name grounding flags that have no effect."""
    for name in ("features_list", "n_ctx"):
        given, trained = getattr(args, name), getattr(checkpoint.config, name)
        given = tuple(given) if isinstance(given, list) else given
        if given not in (None, trained):
            raise InputError(
                f"{args.ckpt_path} was trained with {name} {trained}, not {given}: leave --{name} out, "
                "or give the checkpoint of that architecture"
            )
    given = [f"--{name}" for name in GROUNDING if getattr(args, name) is not None]
    if given:
        print(f"note: without a detector {', '.join(given)} have no effect", file=sys.stderr)


def load_matching_clip(args: argparse.Namespace, checkpoint: Checkpoint, device: torch.device) -> CLIP:
    """Load the CLIP the checkpoint was trained on, wherever its weights lie here."""
    trained = checkpoint.clip
    name, pretrained = args.clip_model or trained["model"], args.clip_pretrained or trained["pretrained"]
    size = args.image_size or trained["image_size"]
    for flag, path in (("clip_model", name), ("clip_pretrained", pretrained)):
        if path == trained[flag.removeprefix("clip_")] and Path(path).suffix and not Path(path).exists():
            print(f"note: {path} is where training had it; --{flag} names another place", file=sys.stderr)
    clip = load_clip(name, pretrained, size, checkpoint.config.activation, device)
    if clip.sha256 != trained["sha256"]:
        raise InputError(
            f"{args.ckpt_path} was trained on the CLIP {trained['model']} ({trained['pretrained']}, "
            f"weights {trained['sha256'][:12]}), but {name} ({pretrained}) has the weights "
            f"{clip.sha256[:12]}: give the right ones by --clip_model and --clip_pretrained"
        )
    if size != trained["image_size"]:
        print(f"note: tested at {size} pixels, trained at {trained['image_size']}", file=sys.stderr)
    return clip


def warn_if_seen(args: argparse.Namespace, checkpoint: Checkpoint, meta: Meta) -> None:
    trained = checkpoint.provenance
    if trained["dataset"] == args.dataset or trained["meta_sha256"] == meta.sha256:
        print(
            f"warning: {args.ckpt_path} was trained on {trained['dataset']}, the dataset under test: "
            "these numbers are not zero-shot",
            file=sys.stderr,
        )


def describe_run(
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    dataset: AnomalyDataset,
    results: list[ClassResult],
    device: torch.device,
) -> dict:
    """Everything that is needed to repeat the numbers, and the numbers."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "arguments": plain(vars(args)),
        "preset": preset_name(checkpoint.config),
        "classes": {
            r.class_name: {"normal": r.normal, "anomalous": r.anomalous, **r.metrics} for r in results
        },
        "mean": mean_metrics([result.metrics for result in results]),
        "notes": [note for result in results for note in result.notes],
        "images": len(dataset),
        "hashes": {
            "checkpoint": checkpoint.sha256,
            "clip_weights": checkpoint.clip["sha256"],
            "meta.json": dataset.meta.sha256,
            "prompts": {str(path): sha256_of(path) for path in options.read_prompts(args).files},
        },
        "trained": checkpoint.provenance,
        "seed": args.seed,
        "environment": describe_environment(device),
    }


if __name__ == "__main__":
    exit_clearly(main)
