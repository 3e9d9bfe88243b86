"""How a frozen CLIP is made: model name, weights, image size and activation -> `CLIP`."""

from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

from filo.clip.build import build_model, read_config
from filo.clip.positions import resize_positions
from filo.clip.text import TextTower
from filo.clip.tokens import fill_table
from filo.clip.vision import VisionTower
from filo.errors import InputError
from filo.precision import DTYPES
from filo.weights import drawn_seed, find_kind, fingerprint, read_weights, require_finite

ACTIVATIONS = ("gelu", "quick_gelu")
OPENAI_MEAN_STD = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


class CLIP(nn.Module):
    """A frozen CLIP: two towers, the sizes a method needs, and a fingerprint of its weights.

    Attributes:
        sha256: over names and float32 values of the weights before resizing, so that the same weights have
            the same value whatever file they came in
        mean, std: of the images these weights were trained on, RGB, for pixels in [0, 1]
        precision: in which the blocks of both towers multiply, `fp32`, `bf16` or `fp16`
    """

    def __init__(self, model: nn.Module, sha256: str, mean: tuple, std: tuple) -> None:
        super().__init__()
        text = getattr(model, "text", model)
        self.vision = VisionTower(model.visual)
        self.text = TextTower(text, text.context_length)
        self.image_size: int = model.visual.image_size[0]
        self.patch_size: int = model.visual.patch_size[0]
        self.vision_width: int = model.visual.conv1.out_channels
        self.embed_dim: int = model.visual.output_dim
        self.text_width: int = self.text.width
        self.layers: int = len(self.vision.blocks)
        self.sha256, self.mean, self.std = sha256, mean, std
        self.precision = "fp32"
        self.requires_grad_(False).eval()

    def set_precision(self, precision: str) -> None:
        """Let the blocks multiply in another format; features come out in float32 as before.

        At `fp32` all convolutions of this process multiply in float32 from then on, on CUDA too.
        """
        for tower in (self.vision, self.text):
            tower.set_dtype(DTYPES[precision])
        if precision == "fp32":  # PyTorch would round what convolutions multiply to 10 bits
            torch.backends.cudnn.allow_tf32 = False
        self.precision = precision

    @property
    def dtype(self) -> torch.dtype:
        """The number format of `precision`."""
        return DTYPES[self.precision]

    def describe(self) -> dict:
        """Say what a checkpoint must find again, as JSON has it."""
        about = {"image_size": self.image_size, "sha256": self.sha256}
        return about | {"mean": list(self.mean), "std": list(self.std)}

    def train(self, mode: bool = True) -> "CLIP":
        """Stay in evaluation mode whatever the module around this one does."""
        return super().train(False)


def load_clip(
    name: str,
    pretrained: str,
    image_size: int,
    activation: str = "gelu",
    device: str | torch.device = "cpu",
    *,
    weights: dict[str, Tensor] | None = None,
    resize: str = "bicubic",
) -> CLIP:
    """Load a plain ViT of open_clip, resized to square images of `image_size` pixels.

    `name` is a model name of open_clip or a path to a JSON file in the form of its model configs.
    `pretrained` is a weights tag of open_clip (downloaded once, then cached), a local file (safetensors,
    OpenAI's archive, a state dict; images are then normalised as OpenAI's), or `drawn:SEED` for weights
    drawn from a seed, which know nothing and are for tests and timing. With `weights` nothing is looked for:
    they are taken as they are, out of the dict, and `pretrained` just says where they come from. `activation`
    is `gelu` or `quick_gelu`; it is never left to open_clip, whose versions differ in their choice. `resize`
    is how position embeddings are brought to the image size, one of `positions.RESIZES`.

    Raises:
        InputError: unknown model or tag, no plain ViT, unreadable weights, weights of another model, bad
            image size.
    """
    config = read_config(name)
    if activation not in ACTIVATIONS:
        raise InputError(f"activation {activation!r}: wanted one of {', '.join(ACTIVATIONS)}")
    patch = config["vision_cfg"].get("patch_size", 16)
    if image_size < patch or image_size % patch:
        near = max(1, round(image_size / patch)) * patch
        raise InputError(
            f"image size {image_size} is no multiple of the {patch}-pixel patch of {name}: try {near}"
        )
    with torch.device("meta"):  # values would only be overwritten; drawing them takes long
        model = build_model(name, config, image_size, activation)
    mean, std = OPENAI_MEAN_STD
    if weights is None:
        weights, mean, std = find_weights(name, config, pretrained)
    sha256 = fingerprint(weights)
    model = model.to_empty(device="cpu")
    _fill(model, weights, f"{name} with weights {pretrained}", resize)
    return CLIP(model, sha256, mean, std).to(device)


def find_weights(
    name: str, config: dict, pretrained: str, read: Callable[[Path], dict[str, Tensor]] = read_weights
) -> tuple[dict[str, Tensor], tuple, tuple]:
    """Give the weights at their native size, and the mean and standard deviation of their images.

    `name`, its `config` and `pretrained` are as in `load_clip`; `read` opens the file they lead to.

    Raises:
        InputError: there are none, or the file holds something else.
    """
    mean, std = OPENAI_MEAN_STD
    if (seed := drawn_seed(pretrained)) is not None:
        return draw_weights(name, config, seed), mean, std
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        if not Path(pretrained).exists() and not Path(pretrained).suffix:
            known = f"tags of {name}: {', '.join(tags)}" if tags else f"{name} has no tags"
            raise InputError(f"{pretrained!r} is neither a file nor a weights tag ({known})")
        weights = fill_table(read(Path(pretrained)))
        if find_kind(weights) == "anomalyclip":
            raise InputError(
                f"{pretrained} holds an AnomalyCLIP, which belongs to --ckpt_path; it has no CLIP in it"
            )
        if find_kind(weights) in ("published", "trained"):
            raise InputError(
                f"{pretrained} holds a FiLo, which belongs to --ckpt_path; a published one brings its CLIP "
                "with it, which `python -m filo.checkpoint convert` writes as a file for --clip_pretrained"
            )
        return weights, mean, std
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    try:
        path = open_clip.download_pretrained(tag)
    except Exception as error:  # the hub's client, urllib and open_clip raise kinds of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the weights {pretrained!r} of {name} are not on this machine and could not be downloaded "
            f"({reason}); fetch them elsewhere, from {_address(tag)}, and name the file by "
            "--clip_pretrained PATH (CLIP_PRETRAINED at the top of train.sh), then run this again; "
            "`bash demo.sh` needs no download"
        ) from error
    return read(Path(path)), tuple(tag.get("mean", mean)), tuple(tag.get("std", std))


def _address(tag: dict) -> str:
    hub = f"https://huggingface.co/{tag['hf_hub'].rstrip('/')}" if tag.get("hf_hub") else ""
    return " or ".join(filter(None, (tag.get("url"), hub))) or "where the model is published"


def draw_weights(name: str, config: dict, seed: int) -> dict[str, Tensor]:
    """Draw weights from a seed, the same on every machine, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(name, config, config["vision_cfg"].get("image_size", 224), "gelu").state_dict()


def _fill(model: nn.Module, weights: dict[str, Tensor], what: str, resize: str) -> None:
    """Load the weights strictly, the position grid resized to the model's.

    They are taken out of the dict one by one, so that never all of them are in memory twice.
    """
    weights, given = dict(weights), weights
    if "positional_embedding" in weights and hasattr(model, "text"):
        weights = convert_to_custom_text_state_dict(weights)
    if "logit_scale" in weights and weights["logit_scale"].numel() == 1:
        weights["logit_scale"] = weights["logit_scale"].reshape(model.logit_scale.shape)
    table = weights.get("visual.positional_embedding")
    if table is not None and table.ndim == 2:
        try:
            weights["visual.positional_embedding"] = resize_positions(
                table, model.visual.grid_size[0], resize
            )
        except InputError as error:
            raise InputError(f"{what} do not fit: {error}") from error
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in weights.items()}
    wrong = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if wrong:
        first = wrong[0]
        raise InputError(
            f"{what} do not fit: {len(wrong)} of {len(wanted)} tensors differ, the first is "
            f"{first} (wanted {wanted.get(first, 'none')}, found {found.get(first, 'none')}); "
            "is it another CLIP model?"
        )
    require_finite(what, weights)
    given.clear()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(weights.pop(name))
