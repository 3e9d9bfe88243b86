"""Train FiLo on one dataset: prompts and heads first (stage 1), then the adapter (stage 2). Or AnomalyCLIP.

python train.py --dataset visa --train_data_path ./data/visa --save_path ./checkpoints/filo_visa
python train.py --method anomalyclip --dataset visa --train_data_path ./data/visa --save_path ./anomalyclip

The defaults are those of the published programs. Training runs on the *test* split of the auxiliary dataset,
which is the one that holds anomalies; evaluate on another dataset.
"""

import argparse
import time
from pathlib import Path

import torch
from tqdm import tqdm

from filo import logs, options, resume
from filo.all_methods import make_model
from filo.checkpoint import epoch_path, save_checkpoint
from filo.clip.load import load_clip
from filo.datasets import AnomalyDataset, iterate, shuffled
from filo.determinism import make_repeatable
from filo.errors import exit_clearly
from filo.features import FrozenFeatures, open_features
from filo.files import link_or_copy
from filo.job import join
from filo.meta import read_meta
from filo.method import Method
from filo.method_options import (
    add_method_options,
    find_method,
    mosaic_rate,
    parse,
    read_config,
    read_schedule,
)
from filo.processes import Processes
from filo.progress import Progress
from filo.run_folder import TRAINING, start_run, trained_name
from filo.run_lock import hold
from filo.stages import Stage, plan
from filo.training_log import TrainingLog


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument_group("data: what it learns from").add_argument
    add("--dataset", default="visa", help="name of the dataset; picks prompts/<dataset>.json")
    add("--train_data_path", type=Path, default=Path("./data/visa"), help="its root, which holds meta.json")
    options.add_prompt_option(add)
    rate = "share of 2x2 mosaics (default: 0.2 for FiLo on mvtec, otherwise 0)"
    add("--aug_rate", type=options.share, help=rate)
    add_method_options(parser, method := find_method())

    add = parser.add_argument_group("speed: what is exact at fp32, and what is not").add_argument
    options.add_speed_options(add)
    options.add_feature_options(add)

    add = parser.add_argument_group("run: where and how it runs").add_argument
    add("--save_path", type=Path, default=Path("./ckpt"), help="folder of this run")
    options.add_resume_options(add)
    add("--keep", choices=("all", "last"), default="all", help="epochs of a stage whose checkpoints are kept")
    add("--tensorboard", action="store_true", help="write its files as well, if that package is there")
    options.add_run_options(add)
    return parse(parser, method)


def main() -> None:
    with join() as us:
        args = parse_args()
        with us.first_only(hold(args.save_path, TRAINING)):
            train(args, us)


def train(args: argparse.Namespace, us: Processes) -> None:
    """Begin, or go on where the run in the folder was stopped, and train all stages."""
    folder, device = args.save_path, logs.pick_device(us.own_device(args.device))
    asked = resume.of_all(logs.plain(vars(args)), us.count)
    state = resume.find_state(folder, asked, args.resume, args.overwrite)
    make_repeatable(args.seed, args.deterministic)
    epochs, rates = read_schedule(args)
    model, dataset = build(args, device)
    log = TrainingLog(folder, args.tensorboard)
    provenance = describe(args, model, dataset, logs.describe_environment(device) | {"processes": us.count})
    identity = resume.identify(asked, dataset.meta.sha256, provenance["prompts"], model.clip.sha256)
    resume.require_same_everywhere(us, identity | {"state": state and str(state.position)})
    features = open_features(model, dataset, args.cache_features, args.cache_precision, us)
    progress = Progress(folder, model, identity, provenance["environment"], args.save_every, us)
    progress.go_on_from(state, epochs, len(dataset), args.batch_size * us.count)
    if state is None and us.is_first:
        start_run(folder, TRAINING, provenance["arguments"])  # an older one goes
    logs.announce(folder, len(dataset), epochs, args.keep, model.trained_state(), args.save_every > 0)
    with progress:
        for stage in plan(model, epochs, rates):
            optimizer = stage.optimizer(stage.parameters, fused=device.type != "mps")
            for epoch in progress.enter(stage.number, optimizer, stage.epochs):
                loss = train_one_epoch(args, stage, epoch, features, progress)
                seconds = progress.position.seconds
                line = {"stage": stage.number, "epoch": epoch, "loss": loss, "seconds": round(seconds, 2)}
                progress.end_epoch(line | logs.peak_memory(device))
                if not us.is_first:
                    continue
                log.write(progress.log, is_last=epoch == stage.epochs)
                print(f"stage {stage.number} epoch {epoch}/{stage.epochs}: loss {loss:.4f}, {seconds:.1f} s")
                about = provenance | line | {"resumed": progress.resumed}
                last = save(args, model, stage.number, epoch, about)
        if us.is_first:
            link_or_copy(last, folder / trained_name(args.method))
            progress.finish()
    print(f"trained weights: {folder / trained_name(args.method)}")


def describe(args: argparse.Namespace, model: Method, dataset: AnomalyDataset, environment: dict) -> dict:
    """Everything that is needed to train these weights again."""
    prompts = options.hash_prompts(args, model.config)
    about = {"dataset": args.dataset, "meta_sha256": dataset.meta.sha256, "prompts": prompts}
    return about | {"arguments": logs.plain(vars(args)), "environment": environment}


def build(args: argparse.Namespace, device: torch.device) -> tuple[Method, AnomalyDataset]:
    config = read_config(args)
    meta = read_meta(args.train_data_path, "test")
    meta.require_masks()
    texts = options.read_texts(args, meta.classes, config)
    named = (args.clip_model, args.clip_pretrained, args.image_size, config.activation, device)
    clip = load_clip(*named, resize=config.resize)
    options.set_speed(args, clip, device)
    args.aug_rate = mosaic_rate(args)
    mosaics = {"aug_rate": args.aug_rate, "mosaic_label": config.mosaic_label, "seed": args.seed}
    dataset = AnomalyDataset(meta, clip.image_size, clip.mean, clip.std, **mosaics)
    return make_model(clip, config, texts).to(device), dataset


def train_one_epoch(
    args: argparse.Namespace, stage: Stage, epoch: int, features: FrozenFeatures, progress: Progress
) -> float:
    """Go through what is left of the dataset, in an order of this epoch's own; give the mean loss of all.

    Of a step's images each process computes its share; their gradients add up to that of the mean.
    """
    dataset, done = features.dataset, progress.position.images
    optimizer, device, us = progress.optimizer, progress.device, progress.us
    started = time.perf_counter() - progress.position.seconds
    features.begin_epoch(epoch if stage.number == 1 else args.epoch + epoch)  # mosaics differ
    order = shuffled(dataset.entries, args.batch_size * us.count, args.seed, stage.number, epoch)
    steps = us.steps(order[done:], args.batch_size)
    mine = [index for step in steps for index in step.mine]
    batches = iterate(dataset, args.batch_size, mine, options.count_workers(args, device.type))
    what = f"stage {stage.number} epoch {epoch}"
    with tqdm(total=len(dataset), initial=done, desc=what, unit="image", disable=None) as bar:
        for step, batch in zip(steps, batches, strict=True):
            seen = features.of(batch, stage.tapped, device)
            loss = stage.loss(seen, batch.to(device))
            progress.require_finite(value := loss.item(), batch.entries[0].image)
            (loss * step.weight).backward()
            us.add_up(each.grad for group in stage.parameters for each in group["params"])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # at once: the next forward pass wants the memory
            bar.update(step.size)
            progress.add(value * step.weight, step.size, time.perf_counter() - started)
    return progress.position.loss / len(dataset)


def save(args: argparse.Namespace, model: Method, stage: int, epoch: int, provenance: dict) -> Path:
    """Write the epoch's checkpoint; with `--keep last` the one before goes once this one is complete."""
    clip = {"model": args.clip_model, "pretrained": args.clip_pretrained} | model.clip.describe()
    path = epoch_path(args.save_path, stage, epoch)
    save_checkpoint(path, model.trained_state(), model.config, clip, provenance)
    if args.keep == "last":
        epoch_path(args.save_path, stage, epoch - 1).unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    exit_clearly(main)
