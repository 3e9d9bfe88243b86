"""What the frozen image tower gives: a global feature and patch tokens from several depths (FiLo, 3.3;
AnomalyCLIP, 3.3).

From some block on two streams run side by side. The ordinary one is CLIP itself. The V-V one only gathers
`proj(softmax(v v^T / sqrt(d)) v)`, its values taken from the ordinary stream, and has no MLP.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from filo.clip.attention import attend, feed_forward, project_qkv, set_dtype
from filo.errors import InputError


class ImageFeatures(NamedTuple):
    """Everything a method may want from one pass over a batch of images.

    Shape:
        image: (B, D), class token of the ordinary stream after `ln_post` and projection, not normalised
        ordinary: one (B, 1 + N, C) for each tap, class token first, no `ln_post`
        vv: the same for each tap that the V-V stream reaches
    """

    image: Tensor
    ordinary: tuple[Tensor, ...]
    vv: tuple[Tensor, ...]

    def distinct(self) -> tuple[list[Tensor], list[list[int]]]:
        """Give the taps that are not the same tensor again, and which of them each of both streams is."""
        tensors = list({id(tap): tap for tap in (*self.ordinary, *self.vv)}.values())
        numbers = {id(tensor): i for i, tensor in enumerate(tensors)}
        return tensors, [[numbers[id(tap)] for tap in stream] for stream in (self.ordinary, self.vv)]

    def map(self, change: Callable[[Tensor], Tensor]) -> "ImageFeatures":
        """Change every distinct tensor once; what was the same tensor stays the same."""
        tensors, layout = self.distinct()
        changed = [change(tensor) for tensor in tensors]
        streams = (tuple(changed[i] for i in stream) for stream in layout)
        return ImageFeatures(change(self.image), *streams)

    def row(self, index: int) -> "ImageFeatures":
        """Give one image's features, still with a batch axis."""
        return self.map(lambda tensor: tensor[index : index + 1])

    def to(self, device: torch.device) -> "ImageFeatures":
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


def join(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """Put batches with the same taps one behind the other."""
    if len(parts) == 1:
        return parts[0]
    layout = parts[0].distinct()[1]
    taps = [torch.cat(tensors) for tensors in zip(*(part.distinct()[0] for part in parts), strict=True)]
    streams = (tuple(taps[i] for i in stream) for stream in layout)
    return ImageFeatures(torch.cat([part.image for part in parts]), *streams)


class VisionTower(nn.Module):
    """Walks the blocks of an open_clip `VisionTransformer` and taps them.

    Shape:
        images: (B, 3, S, S), normalised with CLIP's mean and standard deviation
        output: `ImageFeatures`
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.dtype = torch.float32

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Let the blocks multiply in another format; features come out in float32 as before."""
        set_dtype(self.blocks, dtype)
        self.dtype = dtype

    @property
    def blocks(self) -> nn.ModuleList:
        return self.visual.transformer.resblocks

    def forward(
        self,
        images: Tensor,
        taps: Sequence[int],
        aliased: bool = False,
        vv_after: int | None = None,
        norm_image: bool = True,
    ) -> ImageFeatures:
        """Run the tower; `taps` are 1-based depths, `aliased` stores them as the published FiLo does.

        The V-V stream starts from what block `vv_after` gives, by default that of the first tap; 0 is what
        goes into the first block. Without taps there is none, just the global feature. `norm_image` puts
        `ln_post` before the projection of the class token.

        As official: the published FiLo adds in place into tensors it has already stored. What its heads get
        is therefore the last V-V tensor for the first tap and for every V-V tap, and for a later ordinary tap
        the stream after the *next* block's attention. Its published weights were trained on exactly these.
        """
        self._check(images, taps)
        start = taps[0] if taps and vv_after is None else vv_after
        x = self.visual._embeds(images)  # (B, 1 + N, C)
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            x, ordinary, vv_taps = self._walk(x, taps, aliased, start)
        return ImageFeatures(
            self._global_feature(x, norm_image),
            tuple(ordinary[tap] for tap in taps),
            tuple(vv_taps[tap] for tap in taps if tap > start),
        )

    def project(self, tokens: Tensor) -> Tensor:
        """Bring tokens (B, N, C) into the joint space as CLIP does with its class token: (B, N, D)."""
        tokens = self.visual.ln_post(tokens)
        return tokens if self.visual.proj is None else tokens @ self.visual.proj

    def _walk(
        self, x: Tensor, taps: Sequence[int], aliased: bool, start: int | None
    ) -> tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]:
        """Go through the blocks: the last state, and both streams at the taps."""
        ordinary, vv_taps = {}, {}
        vv = x if taps and start == 0 else None
        for depth, block in enumerate(self.blocks, start=1):
            q, k, v = project_qkv(block, x)
            x = x + attend(block, q, k, v)
            if aliased and depth - 1 in ordinary:
                ordinary[depth - 1] = x
            if vv is not None:
                vv = vv + attend(block, v, v, v)
            x = feed_forward(block, x)
            if depth in taps:
                ordinary[depth], vv_taps[depth] = x, vv
            if taps and depth == start:
                vv = x
        if aliased and taps:  # with a single last tap `vv` is that very tap
            ordinary[taps[0]] = vv
            vv_taps = dict.fromkeys(vv_taps, vv)
        return x, ordinary, vv_taps

    def _global_feature(self, x: Tensor, is_normed: bool) -> Tensor:
        pooled = self.visual._pool(x)[0] if is_normed else x[:, 0]
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def _check(self, images: Tensor, taps: Sequence[int]) -> None:
        side = self.visual.image_size[0]
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
            raise InputError(
                f"images have shape {tuple(images.shape)}; this CLIP was built for (B, 3, {side}, {side})"
            )
        if taps:
            check_taps(taps, len(self.blocks))


def check_taps(taps: Sequence[int], depth: int) -> None:
    """Raise `InputError` unless `taps` rise strictly within 1..depth."""
    if not taps or list(taps) != sorted(set(taps)) or taps[0] < 1 or taps[-1] > depth:
        raise InputError(f"features_list {list(taps)}: wanted rising layer numbers between 1 and {depth}")
