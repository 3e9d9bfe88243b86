"""Train the demo's small CLIP from nothing: pictures drawn by `filo.synthetic`, captions, open_clip's loss.

python -m filo.demo.pretrain

Each step sees windows of pictures in pairs of one scene, so that only the damage tells a caption from its
neighbour's. The losses contrast whole windows, regions of them (the mean of some patch tokens) and single
patches with captions, and with the mean of all captions that speak of damage, as FiLo does. A run that was
broken off goes on where it last wrote its state.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from filo.clip.build import read_config
from filo.clip.tokens import TABLE, cut_table
from filo.demo.captions import Captions, Tokens
from filo.demo.schedule import phase_at, plan, rate_at, scale_at
from filo.demo.store import open_store
from filo.demo.towers import build, encode_images, encode_texts
from filo.demo.views import Step, draw_step
from filo.errors import InputError, exit_clearly
from filo.files import append_line, write_atomically
from filo.logs import pick_device
from filo.synthetic.families import FAMILIES
from filo.synthetic.picture import generator

HERE = Path("checkpoints/demo")
BETAS, DECAY, MOMENTUM, CLIPPED = (0.9, 0.98), 0.1, 0.95, 1.0
WEIGHTS = {
    "whole": 0.5,
    "region": 0.5,
    "pair": 1.0,
    "patch": 1.0,
    "state": 1.0,
    "states": 3.0,
}  # of the losses
DROPPED = 0.03  # share of tokens made unknown
STATE = "state.pt"
SAVE_EVERY = 180  # seconds
LOG_EVERY = 20  # steps


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m filo.demo.pretrain",
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument_group("data: what it learns from").add_argument
    add("--scenes", type=int, default=9000, help="each drawn flawless and damaged in two ways")
    add("--side", type=int, default=144, help="of the pictures drawn, in pixels")
    add = parser.add_argument_group("training: how it learns").add_argument
    add("--clip_model", default=str(HERE / "clip.json"), help="config of the model")
    add("--small_steps", type=int, default=3000, help="steps on small windows")
    add("--large_steps", type=int, default=3600, help="steps on nearly whole pictures, after these")
    add("--batch_scenes", type=int, default=12, help="scenes of a step with small windows, two pictures each")
    add("--learning_rate", type=float, default=1.5e-3, help="at its highest")
    add("--precision", choices=("fp32", "bf16"), default="bf16", help="in which it multiplies")
    add = parser.add_argument_group("run: where and how it runs").add_argument
    add("--out", type=Path, default=HERE / "clip.safetensors", help="the weights file")
    add("--work", type=Path, default=Path("cache/pretrain"), help="folder of the pictures and the state")
    add("--seed", type=int, default=0, help="of pictures, captions, first weights and order")
    add("--device", help="cuda, cpu, mps (default: CUDA's first, or the CPU)")
    add("--workers", type=int, default=2, help="processes that draw")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = pick_device(args.device)
    captions = Captions()
    tokens = Tokens(captions.words(tuple(noun for family in FAMILIES for noun in family.nouns)))
    store = open_store(args.work / "pictures", args.seed, args.scenes, args.side, args.workers)
    torch.manual_seed(args.seed)
    model = build(read_config(args.clip_model), args.side, len(tokens)).to(device)
    optimizers = make_optimizers(model, args.learning_rate)
    patch = model.visual.patch_size[0]
    phases = plan(args.side, patch, args.batch_scenes, args.small_steps, args.large_steps)
    total = sum(phase.steps for phase in phases)
    first = load_state(args.work / STATE, args, model, optimizers, device)
    started = saved = time.perf_counter()
    for step in tqdm(range(first, total), "pretraining", total, initial=first, unit="step", disable=None):
        rng = generator(args.seed, "step", step)  # of this step alone, so that a run can be taken up again
        phase = phase_at(phases, step)
        batch = draw_step(rng, store, captions, phase.scale, patch, phase.scenes)
        set_rate(optimizers, args.learning_rate * rate_at(step, total))
        scale = scale_at(step, total)
        losses = train_step(model, optimizers, batch, tokens, rng, device, args.precision, scale)
        done, now = step + 1, time.perf_counter()
        if done % LOG_EVERY == 0 or done == total:
            line = {"step": done, **losses, "scale": round(scale, 2), "seconds": round(now - started, 1)}
            append_line(args.work / "log.jsonl", line)
        if now - saved > SAVE_EVERY or done == total:
            save_state(args.work / STATE, args, model, optimizers, done)
            write_weights(args.out, model, tokens, done)
            saved = now
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB after {total} steps")


def make_optimizers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Give Muon for the matrices of the blocks, which learns from fewer pictures, and AdamW for all else."""
    if not hasattr(torch.optim, "Muon"):
        raise InputError(f"pretraining needs PyTorch 2.9 or newer, this is {torch.__version__}")
    blocks = {name: p for name, p in model.named_parameters() if p.ndim == 2 and ".resblocks." in name}
    rest = [p for name, p in model.named_parameters() if name not in blocks]
    muon = torch.optim.Muon(
        blocks.values(), lr=rate, weight_decay=DECAY, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(rest, lr=rate, betas=BETAS, weight_decay=0.0)]


def set_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = rate


def train_step(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    batch: Step,
    tokens: Tokens,
    rng,
    device: torch.device,
    precision: str,
    scale: float,
) -> dict[str, float]:
    """Take one step; return the losses of windows and of regions."""
    rows = tokens.encode(batch.captions + batch.region_captions)
    unknown = torch.from_numpy(rng.uniform(size=rows.shape)) < DROPPED
    unknown &= (rows != rows[:, :1]) & (rows != len(tokens) - 1) & (rows != tokens.placeholder)
    rows = rows.masked_fill(unknown, 0).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        images, patches = encode_images(model.visual, batch.images.to(device))
        texts = encode_texts(model, rows)
    images, texts, patches = (F.normalize(each.float(), dim=-1) for each in (images, texts, patches))
    regions = F.normalize(torch.einsum("bn,bnd->bd", batch.regions.to(device), patches), dim=-1)
    of_images, of_regions = texts.split(len(images))
    contrast, covers = ClipLoss(), batch.covers.to(device)
    losses = {
        "whole": contrast(images, of_images, scale),
        "region": contrast(regions, of_regions, scale),
        "pair": contrast_pairs(images, of_images, scale),
        "patch": contrast_patches(patches, of_regions, covers, scale),
        "state": contrast_states(images[:, None], of_regions, covers, covers.amax(1, keepdim=True), scale),
        "states": contrast_states(patches, of_regions, covers, covers, scale),
    }
    loss = sum(WEIGHTS[name] * value for name, value in losses.items())
    if not math.isfinite(loss.item()):
        raise InputError(f"the loss is {loss.item()}: lower --learning_rate")
    model.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIPPED)
    for optimizer in optimizers:
        optimizer.step()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
        model.token_embedding.weight[tokens.placeholder] = 0  # learned vectors, drawn small, begin here
    return {name: round(value.item(), 4) for name, value in losses.items()}


def contrast_pairs(features: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Contrast the two pictures of each scene, which stand side by side, with their captions alone."""
    pairs = [each.unflatten(0, (-1, 2)) for each in (features, texts)]
    logits = scale * pairs[0] @ pairs[1].transpose(1, 2)  # (B / 2, 2, 2)
    wanted = torch.arange(2, device=logits.device).expand(len(logits), 2)
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.transpose(1, 2), wanted)) / 2


def contrast_patches(patches: Tensor, texts: Tensor, covers: Tensor, scale: float) -> Tensor:
    """Contrast every patch of a scene's two pictures with the captions of its damage and of none.

    Damaged patches (by their share) and others weigh alike. Where both pictures or neither shows damage, no
    caption is right for the patches that are not damaged, and these are left out.

    Shape:
        patches: (B, N, D), texts: (B, D), unit vectors, the two of a scene side by side
        covers: (B, N), share of each patch that is damaged
    """
    own, other = texts, texts.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    towards_own = scale * torch.einsum("bnd,bd->bn", patches, own - other)
    shows = covers.any(1)
    differ = shows != shows.unflatten(0, (-1, 2)).flip(1).flatten()
    flawless = (covers == 0) * differ[:, None]
    damaged = F.softplus(-towards_own) * covers
    intact = F.softplus(torch.where(shows[:, None], towards_own, -towards_own)) * flawless
    return (damaged.sum() / covers.sum().clamp_min(1) + intact.sum() / flawless.sum().clamp_min(1)) / 2


def contrast_states(features: Tensor, texts: Tensor, covers: Tensor, damaged: Tensor, scale: float) -> Tensor:
    """Contrast features with the mean of all captions that speak of damage and with that of all others.

    Damaged ones (by their share) and others weigh alike. This is how FiLo asks: whichever the damage is.

    Shape:
        features: (B, K, D), texts: (B, D), unit vectors
        covers: (B, N), share of each patch that is damaged, damaged: (B, K), that of each feature
    """
    shows = covers.any(1)
    if shows.all() or not shows.any():
        return features.new_zeros(())
    means = (F.normalize(texts[each].mean(0), dim=-1) for each in (shows, ~shows))
    towards = scale * features @ torch.sub(*means)
    flawless = (damaged == 0).float()
    of_damaged = (F.softplus(-towards) * damaged).sum() / damaged.sum()
    return (of_damaged + (F.softplus(towards) * flawless).sum() / flawless.sum()) / 2


def save_state(path: Path, args: argparse.Namespace, model: nn.Module, optimizers: list, step: int) -> None:
    content = {"step": step, "about": about(args), "model": model.state_dict()}
    content["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def load_state(path: Path, args: argparse.Namespace, model: nn.Module, optimizers: list, device) -> int:
    """Take up a run that was broken off; return how many steps are done.

    Raises:
        InputError: the state is that of a run with other settings.
    """
    if not path.exists():
        return 0
    content = torch.load(path, map_location=device, weights_only=True)
    if content["about"] != about(args):
        raise InputError(f"{path} is of a run with other settings: remove it, or name another --work")
    model.load_state_dict(content["model"])
    for optimizer, saved in zip(optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return content["step"]


def about(args: argparse.Namespace) -> dict[str, str]:
    """Return the settings that a run's numbers depend on."""
    others = ("out", "work", "device", "workers")
    return {name: str(value) for name, value in vars(args).items() if name not in others}


def write_weights(path: Path, model: nn.Module, tokens: Tokens, step: int) -> None:
    """Write the weights in half precision, the token table cut."""
    weights = {name: t.detach().half().cpu().contiguous() for name, t in model.state_dict().items()}
    table = weights.pop(TABLE)
    weights |= cut_table(table[1:], tokens.numbers, table[0])
    weights["logit_scale"] = model.logit_scale.detach().cpu()
    write_atomically(path, lambda temporary: save_file(weights, temporary, {"steps": str(step)}))


if __name__ == "__main__":
    exit_clearly(main)
