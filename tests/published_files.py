"""Files in the published FiLo's form, their weights drawn by the rule of the golden numbers."""

import math
import re
import zlib

import open_clip
import torch
from torch.nn import functional as F

KERNELS = {"11": (1, 1), "33": (3, 3), "55": (5, 5), "77": (7, 7), "15": (1, 5), "51": (5, 1)}
SEPARATE = {"in_proj_": "qkv.", "out_proj.": "proj."}  # attention of the V-V blocks


def drawn(name, shape):
    """Draw one tensor by its published name, as the golden file's README prescribes."""
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if re.search(r"ln_[a-z0-9]+\.weight$", name):
        return 1 + 0.1 * r
    if name.endswith("logit_scale"):
        return torch.full(shape, 4.6)
    if len(shape) >= 2 and "embedding" not in name and "ctx" not in name:
        return r / math.sqrt(math.prod(shape[1:]))
    return 0.1 * r if "embedding" in name else 0.02 * r


def draw_clip(config):
    """Draw a CLIP by open_clip's names, at the image size of its config."""
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in open_clip.CLIP(**config).state_dict().items()}
    return {name: drawn(name, shape) for name, shape in shapes.items()}


def trained_shapes(config, n_ctx=12, taps=4):
    """Give the published names and shapes of everything that was trained on a CLIP of this config."""
    C, D, T = config["vision_cfg"]["width"], config["embed_dim"], config["text_cfg"]["width"]
    shapes = {"adapter.fc.0.weight": (D // 2, D), "adapter.fc.2.weight": (D, D // 2)}
    for i in range(taps):
        shapes |= {f"decoder_linear.fc.{i}.weight": (D, C), f"decoder_linear.fc.{i}.bias": (D,)}
    for name, kernel in KERNELS.items():
        for i in range(taps - 1):
            conv = f"decoder_cov.fc_{name}.{i}"
            shapes |= {f"{conv}.weight": (D, C, *kernel), f"{conv}.bias": (D,)}
    for kind in ("normal", "abnormal"):
        net = f"{kind}_prompt_learner.meta_net"
        shapes |= {f"{kind}_prompt_learner.ctx": (n_ctx, T)}
        shapes |= {f"{net}.linear1.weight": (D // 16, D), f"{net}.linear1.bias": (D // 16,)}
        shapes |= {f"{net}.linear2.weight": (T, D // 16), f"{net}.linear2.bias": (T,)}
    return shapes


def published_state(config, image_size, n_ctx=12, first_tap=6, taps=4):
    """Draw the state dict of the whole published program, built for square images of `image_size` pixels."""
    state, grid = {}, image_size // config["vision_cfg"]["patch_size"]
    for name, tensor in draw_clip(config).items():
        if name == "visual.positional_embedding":
            side = math.isqrt(len(tensor) - 1)
            old = tensor[1:].T.reshape(1, -1, side, side)
            new = F.interpolate(old, (grid, grid), mode="bicubic", align_corners=False)
            tensor = torch.cat([tensor[:1], new[0].flatten(1).T])
        block = re.match(r"visual\.transformer\.resblocks\.(\d+)\.attn\.", name)
        if block and int(block[1]) >= first_tap:
            for ordinary, separate in SEPARATE.items():
                name = name.replace(ordinary, separate)
        state[f"clip_model.{name}"] = tensor
        if not name.startswith(("visual.", "token_embedding.", "logit_scale")):
            state[f"text_encoder.{name}"] = tensor
    return state | {name: drawn(name, s) for name, s in trained_shapes(config, n_ctx, taps).items()}
