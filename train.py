"""Train FiLo on one dataset: prompts and heads first (stage 1), then the adapter (stage 2).

python train.py --dataset visa --train_data_path ./data/visa --save_path ./checkpoints/filo_visa

The defaults are those of the published program. Training runs on the *test* split of the auxiliary dataset,
which is the one that holds anomalies; evaluate on another dataset.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from filo import logs, options, run_folder
from filo.checkpoint import epoch_path, save_checkpoint
from filo.clip.load import load_clip
from filo.clip.vision import ImageFeatures
from filo.datasets import AnomalyDataset, Batch, iterate, shuffled
from filo.errors import InputError, exit_clearly
from filo.features import FrozenFeatures, open_features
from filo.files import link_or_copy, sha256_of
from filo.meta import read_meta
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import ABLATIONS, AT_TEST_ONLY, PRESETS, ablate
from filo.training_log import TrainingLog

BETAS = (0.5, 0.999)
PUBLISHED_AUG_RATE = {"mvtec": 0.2}  # the published program makes mosaics for MVTec only


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument_group("data: what it learns from").add_argument
    add("--dataset", default="visa", help="name of the dataset; picks prompts/<dataset>.json")
    add("--train_data_path", type=Path, default=Path("./data/visa"), help="its root, which holds meta.json")
    options.add_prompt_option(add)
    add("--aug_rate", type=options.share, help="share of 2x2 mosaics (default: 0.2 for mvtec, otherwise 0)")

    add = parser.add_argument_group("method: what is trained").add_argument
    add("--preset", choices=PRESETS, default="official", help="whom to follow where program and paper differ")
    add("--clip_model", default="ViT-L-14-336", help="an open_clip ViT, or a JSON file like its configs")
    add("--clip_pretrained", default="openai", help="a weights tag, a local file, or drawn:SEED")
    add("--image_size", type=options.side, default=518, help="side of the square images, in pixels")
    add(
        "--features_list",
        type=options.positive,
        nargs="+",
        default=[6, 12, 18, 24],
        help="tapped layers, from 1",
    )
    add("--n_ctx", type=options.positive, default=12, help="learned vectors before each text")
    options.add_without_option(add, [part for part in ABLATIONS if part not in AT_TEST_ONLY])

    add = parser.add_argument_group("optimisation: how it is trained").add_argument
    add("--epoch", type=options.count, default=15, help="epochs of stage 1")
    add("--adapter_epoch", type=options.count, default=5, help="epochs of stage 2")
    add("--batch_size", type=options.positive, default=1, help="images per step")
    add("--learning_rate", type=options.rate, default=1e-3, help="of the learned vectors and their nets")
    add("--decoder_learning_rate", type=options.rate, default=1e-4, help="of the linear and MMCI heads")
    add("--adapter_learning_rate", type=options.rate, default=1e-5, help="of the adapter")

    add = parser.add_argument_group("speed: what is exact at fp32, and what is not").add_argument
    options.add_speed_options(add)
    options.add_feature_options(add)

    add = parser.add_argument_group("run: where and how it runs").add_argument
    add("--save_path", type=Path, default=Path("./ckpt"), help="folder of this run")
    add("--overwrite", action="store_true", help="throw away the run that the folder holds")
    add("--keep", choices=("all", "last"), default="all", help="epochs of a stage whose checkpoints are kept")
    add("--seed", type=options.seed, default=0, help="of first weights, order and mosaics")
    add("--tensorboard", action="store_true", help="write its files as well, if that package is there")
    options.add_run_options(add)
    return parser.parse_args()


@dataclass
class Stage:
    """One of the two stages: how long, what is trained at which rate, against which loss."""

    number: int
    epochs: int
    parameters: list[dict]
    loss: Callable[[ImageFeatures, Batch], Tensor]
    tapped: bool  # whether the loss looks at patch tokens


def main() -> None:
    args = parse_args()
    device = logs.pick_device(args.device)
    run_folder.require_free(args.save_path, run_folder.TRAINING, args.overwrite)
    torch.manual_seed(args.seed)
    model, dataset = build(args, device)
    features = open_features(model, dataset, args.cache_features, args.cache_precision)
    log = TrainingLog(args.save_path, args.tensorboard)
    run_folder.start_run(args.save_path, run_folder.TRAINING, logs.plain(vars(args)))  # an older one goes
    epochs = (args.epoch, args.adapter_epoch)
    logs.announce(args.save_path, len(dataset), epochs, args.keep, model.trained_state())
    provenance = {"dataset": args.dataset, "meta_sha256": dataset.meta.sha256}
    provenance["prompts"] = {str(path): sha256_of(path) for path in options.read_prompts(args).files}
    provenance |= {"arguments": logs.plain(vars(args)), "environment": logs.describe_environment(device)}
    for stage in plan(args, model):
        optimizer = torch.optim.AdamW(stage.parameters, betas=BETAS, fused=device.type != "mps")
        for epoch in range(1, stage.epochs + 1):
            started = time.perf_counter()
            loss = train_one_epoch(args, stage, epoch, features, optimizer, device)
            seconds = time.perf_counter() - started
            line = log.add(stage.number, epoch, loss, seconds, device)
            print(f"stage {stage.number} epoch {epoch}/{stage.epochs}: loss {loss:.4f}, {seconds:.1f} s")
            last = save(args, model, stage.number, epoch, provenance | line)
        if stage.epochs:
            log.draw()
    link_or_copy(last, args.save_path / "filo.safetensors")
    print(f"trained weights: {args.save_path / 'filo.safetensors'}")


def build(args: argparse.Namespace, device: torch.device) -> tuple[FiLoModel, AnomalyDataset]:
    if args.epoch + args.adapter_epoch == 0:
        raise InputError("--epoch 0 and --adapter_epoch 0 leave nothing to train")
    config = replace(PRESETS[args.preset], features_list=tuple(args.features_list), n_ctx=args.n_ctx)
    config = ablate(config, args.without)
    meta = read_meta(args.train_data_path, "test")
    meta.require_masks()
    texts = options.read_texts(args, meta.classes, config)
    clip = load_clip(args.clip_model, args.clip_pretrained, args.image_size, config.activation, device)
    options.set_speed(args, clip, device)
    if args.aug_rate is None:
        args.aug_rate = PUBLISHED_AUG_RATE.get(args.dataset, 0.0)
    mosaics = {"aug_rate": args.aug_rate, "mosaic_label": config.mosaic_label, "seed": args.seed}
    dataset = AnomalyDataset(meta, clip.image_size, clip.mean, clip.std, **mosaics)
    return FiLoModel(clip, config, texts).to(device), dataset


def plan(args: argparse.Namespace, model: FiLoModel) -> list[Stage]:
    groups = model.trained_parameters()
    rates = {"decoder": args.decoder_learning_rate, "prompts": args.learning_rate}
    first = [{"params": groups[name], "lr": rate} for name, rate in rates.items() if groups[name]]
    second = [{"params": groups["adapter"], "lr": args.adapter_learning_rate}]
    losses = (
        lambda features, batch: model.local_loss(features, batch.class_names, batch.masks),
        lambda features, batch: model.global_loss(features, batch.class_names, batch.labels),
    )
    return [
        Stage(1, args.epoch, first, losses[0], model.needs_taps(1)),
        Stage(2, args.adapter_epoch, second, losses[1], model.needs_taps(2)),
    ]


def train_one_epoch(
    args: argparse.Namespace,
    stage: Stage,
    epoch: int,
    features: FrozenFeatures,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> float:
    """Go through the dataset once, in an order of this epoch's own; give the mean loss per image."""
    dataset = features.dataset
    features.begin_epoch(epoch if stage.number == 1 else args.epoch + epoch)  # mosaics differ
    order = shuffled(dataset.entries, args.batch_size, args.seed, stage.number, epoch)
    batches = iterate(dataset, args.batch_size, order, options.count_workers(args, device.type))
    total = 0.0
    what = f"stage {stage.number} epoch {epoch}"
    with tqdm(total=len(dataset), desc=what, unit="image", disable=None) as bar:
        for step, batch in enumerate(batches, start=1):
            seen = features.of(batch, stage.tapped, device)
            loss = stage.loss(seen, batch.to(device))
            value = loss.item()
            if not math.isfinite(value):
                raise InputError(
                    f"the loss of stage {stage.number}, epoch {epoch}, step {step} is {value} "
                    f"({batch.entries[0].image}); checkpoints of finished epochs are in {args.save_path}: "
                    "lower the learning rates, or look at that image"
                )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # at once: the next forward pass wants the memory
            total += value * len(batch.entries)
            bar.update(len(batch.entries))
    return total / len(dataset)


def save(args: argparse.Namespace, model: FiLoModel, stage: int, epoch: int, provenance: dict) -> Path:
    """Write the epoch's checkpoint; with `--keep last` the one before goes once this one is complete."""
    clip = {"model": args.clip_model, "pretrained": args.clip_pretrained} | model.clip.describe()
    path = epoch_path(args.save_path, stage, epoch)
    save_checkpoint(path, model.trained_state(), model.config, clip, provenance)
    if args.keep == "last":
        epoch_path(args.save_path, stage, epoch - 1).unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    exit_clearly(main)
