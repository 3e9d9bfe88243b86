"""WinCLIP and WinCLIP+: windows of a frozen CLIP against an ensemble of texts, and against normal images
(arXiv 2303.14814). Nothing is trained.

The preset `official` is what the third-party program at github.com/zqhang/WinCLIP-pytorch does, as the
authors released none; `paper` takes the patch tokens of the last block but one and cuts long pictures. What
the paper further has:

- It masks what lies outside a window, the program drops it; that comes to the same.
- It has 22 templates, the program 21. Which texts are compared with is said from outside, by the ensembles
  `winclip` and `winclip_program`.
- It cuts a long picture into squares of its shorter side, each at most 0.8 of that side after the one before
  (`filo.views.Long`). Every square is a picture of its own; then the mean is taken, over all squares of their
  scores, and where they overlap of their maps. What is remembered are all squares of the references.

At the CLIP's own image size its position embeddings are used unchanged; at another one they are resized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from filo.clip.load import CLIP
from filo.clip.windows import embed_windows, window_patches
from filo.errors import InputError
from filo.fields import check_values, require_fields
from filo.grounding.boxes import Boxes, BoxRules, cell_of
from filo.method import Method, Prediction
from filo.methods.memory import coreset, nearest
from filo.mmci import to_grid
from filo.prompts import ClassTexts
from filo.views import Long, Tiles, View, Whole, count_tiles, join_tiles

TEMPERATURE = 0.07
AT_ONCE = 8  # tiles of one picture in one pass
SIDES = {"large": 3, "mid": 2}  # of windows, in patches; 48 and 32 pixels of ViT-B-16-plus-240


@dataclass(frozen=True)
class WinCLIPConfig:
    """What WinCLIP is made of.

    Raises:
        InputError: a value is of another type, or none of a field's choices.
    """

    # which block's patch tokens are remembered: the last one's, or as in the paper those of the one before
    patch_tokens: Literal["last", "penultimate"] = "last"
    tiling: bool = False  # long pictures are cut into squares along their longer side
    coreset_share: float = 1.0  # of the patch tokens of the references, kept in memory; below 1 of large sets

    sizes: ClassVar[tuple[str, ...]] = ()
    activation: ClassVar[str] = "gelu"
    resize: ClassVar[str] = "bicubic"  # at another size than the CLIP's own, which the program never uses
    boxes: ClassVar[BoxRules] = BoxRules(outside_weight=1.0, name_position=False)
    mosaic_label: ClassVar[str] = "any"
    is_agnostic: ClassVar[bool] = False
    learned_template: ClassVar[bool] = False
    of_testing: ClassVar[tuple[str, ...]] = ()
    features_list: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        check_values(self)
        if not 0 < self.coreset_share <= 1:
            raise InputError(f"coreset_share {self.coreset_share}: wanted above 0 and at most 1")


PRESETS = {"official": WinCLIPConfig(), "paper": WinCLIPConfig(patch_tokens="penultimate", tiling=True)}


def config_from_dict(values: dict) -> WinCLIPConfig:
    """Rebuild a config from its `dataclasses.asdict`.

    Raises:
        InputError: a field is missing, unknown or wrong.
    """
    return WinCLIPConfig(**require_fields(values, WinCLIPConfig))


class WinFeatures(NamedTuple):
    """What the tower says of a batch.

    Shape:
        image: (B, D), the class token
        patches: (B, N, C), without `ln_post` and projection
        windows: by the names of `SIDES`, (B, W, D)

    Of pictures that are cut into tiles B counts these; `sizes` are then the pictures' widths and heights.
    """

    image: Tensor
    patches: Tensor
    windows: dict[str, Tensor]
    sizes: tuple[tuple[int, int], ...] | None = None


class WinCLIPModel(Method):
    """WinCLIP on a frozen CLIP; WinCLIP+ for the classes it remembers references of."""

    def __init__(self, clip: CLIP, config: WinCLIPConfig, texts: Mapping[str, ClassTexts]) -> None:
        super().__init__(clip, config, texts)
        self.grid = clip.image_size // clip.patch_size
        if self.grid < max(SIDES.values()):
            raise InputError(
                f"image size {clip.image_size} has {self.grid} x {self.grid} patches, a window needs "
                f"{max(SIDES.values())} x {max(SIDES.values())}: wanted at least "
                f"{max(SIDES.values()) * clip.patch_size}"
            )
        self.windows = {name: window_patches(self.grid, self.grid, side) for name, side in SIDES.items()}
        self._pairs: dict[str, Tensor] = {}

    @property
    def view(self) -> View:
        side = self.clip.image_size
        return Long(side) if self.config.tiling else Whole(side)

    # what is remembered

    @torch.no_grad()
    def remember(self, class_name: str, references: Tensor | Tiles) -> None:
        """Keep the features of normal images (K, 3, S, S) of a class, or of their tiles, not earlier ones.

        Raises:
            InputError: there are none, or they have another size.
        """
        squares = references.pixels if isinstance(references, Tiles) else references
        if not len(squares):
            raise InputError(f"there are no references of the class {class_name!r}: wanted one or more")
        seen = [self._look(square[None]) for square in squares]
        kept = {name: torch.cat([each.windows[name][0] for each in seen]) for name in SIDES}
        patches = torch.cat([each.patches[0] for each in seen])
        self.memory[class_name] = kept | {"patch": coreset(patches, self.config.coreset_share)}

    # features

    @torch.no_grad()
    def look(self, images: Tensor | Tiles) -> WinFeatures:
        """Run the image tower over images (B, 3, S, S), or over tiles, and all their windows."""
        if not isinstance(images, Tiles):
            return self._look(images)
        pictures = images.pixels.split([count_tiles(size) for size in images.sizes])  # whatever the batch
        seen = [self._look(part) for tiles in pictures for part in tiles.split(AT_ONCE)]
        windows = {name: torch.cat([each.windows[name] for each in seen]) for name in SIDES}
        whole, patches = (torch.cat([getattr(each, name) for each in seen]) for name in ("image", "patches"))
        return WinFeatures(whole, patches, windows, images.sizes)

    def _look(self, images: Tensor) -> WinFeatures:
        layers = self.clip.layers
        tap = layers if self.config.patch_tokens == "last" else layers - 1
        whole = self.clip.vision(images, [tap], vv_after=layers)
        windows = {name: embed_windows(self.clip.vision, images, each) for name, each in self.windows.items()}
        return WinFeatures(whole.image, whole.ordinary[0][:, 1:], windows)

    @torch.no_grad()
    def text_pair(self, class_name: str) -> Tensor:
        """The means of a class's normal and abnormal texts, (2, D), not normalised; they are kept."""
        if class_name not in self.texts:
            raise InputError(f"no texts for the class {class_name!r}; known: {', '.join(self.texts)}")
        if class_name not in self._pairs:
            texts, tower = self.texts[class_name], self.clip.text
            sides = ([f"{text}." for text in side] for side in (texts.normal, texts.abnormal))
            self._pairs[class_name] = torch.stack([tower(tower.grow(side))[0].mean(0) for side in sides])
        return self._pairs[class_name]

    # scores and maps

    def probabilities(self, features: Tensor, pair: Tensor) -> Tensor:
        """Compare features (B, W, D) with each image's text pair (B, 2, D): (B, W, 2), normal first."""
        unit, texts = F.normalize(features, dim=-1), F.normalize(pair, dim=-1)
        return (unit @ texts.transpose(1, 2) / TEMPERATURE).softmax(-1)

    def spread(self, values: Tensor, name: str) -> Tensor:
        """Give each patch the harmonic mean of the values (B, W) of the windows over it: (B, G, G)."""
        return spread(values, self.windows[name], self.grid, self.grid)

    def language_map(self, scores: Tensor, windows: Mapping[str, Tensor]) -> Tensor:
        """Merge image scores (B,) and windows' scores (B, W): the harmonic mean of three, (B, G, G)."""
        total = sum(1 / self.spread(windows[name], name) for name in SIDES)
        total = total + 1 / scores.double()[:, None, None]
        return (3 / total).nan_to_num(0, 0, 0)

    def distances(self, features: WinFeatures, class_name: str) -> dict[str, Tensor]:
        """How far windows (B, W) and patches (B, N) are from those of a class's references.

        Raises:
            InputError: the class has none.
        """
        if class_name not in self.memory:
            known = ", ".join(self.memory) or "none"
            raise InputError(f"no references of the class {class_name!r} are remembered; known: {known}")
        kept = self.memory[class_name]
        found = {name: nearest(features.windows[name], kept[name]) for name in SIDES}
        return found | {"patch": nearest(features.patches, kept["patch"])}

    def vision_map(self, distances: Mapping[str, Tensor]) -> Tensor:
        """The mean of the three distances on the patches, (B, G, G)."""
        windows = [self.spread(distances[name], name) for name in SIDES]
        total = sum(windows) + to_grid(distances["patch"][..., None])[:, 0]
        return (total / 3).nan_to_num(0, 0, 0)

    @torch.no_grad()
    def answer(
        self,
        features: WinFeatures,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """Score a batch, each image of its own class: scores 0 to 1, maps 0 to 2."""
        sizes, names = features.sizes, class_names
        if sizes is not None:
            counts = [count_tiles(size) for size in sizes]
            names = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
        scores, maps, alike = self._answer_squares(features, names)
        if sizes is not None:
            scores, alike = (
                torch.stack([part.mean(0) for part in each.split(counts)]) for each in (scores, alike)
            )
            parts = zip(maps.split(counts), sizes, strict=True)
            maps = torch.stack([join_tiles(part, size) for part, size in parts])
        cells = tuple(cell_of(pixel, maps.shape[-1]) for pixel in maps.flatten(1).argmax(1).tolist())
        return Prediction(scores, maps, tuple(alike), cells)

    def _answer_squares(self, seen: WinFeatures, class_names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Give scores (B,), maps (B, S, S) and the cosines with the normal text (B, 1) of squares."""
        pair = torch.stack([self.text_pair(name) for name in class_names])
        scores = self.probabilities(seen.image[:, None], pair)[:, 0, 1]
        windows = {name: self.probabilities(seen.windows[name], pair)[..., 1] for name in SIDES}
        grids = self.language_map(scores, windows)
        for row, name in enumerate(class_names):
            if name in self.memory:
                far = self.vision_map(self.distances(_row(seen, row), name))[0]
                grids[row] += far
                scores[row] = (scores[row] + far.max()) / 2
        side = self.clip.image_size
        maps = F.interpolate(grids.float()[:, None], size=side, mode="bilinear", align_corners=False)[:, 0]
        normal = F.normalize(pair[:, :1], dim=-1)
        return scores, maps, torch.einsum("bd,bkd->bk", F.normalize(seen.image, dim=-1), normal)


def spread(values: Tensor, patches: Tensor, height: int, width: int) -> Tensor:
    """Give each patch the harmonic mean of the values (B, W) of the windows it lies in: (B, H, W), float64.

    A value of 0 makes the mean 0.
    """
    index = patches.flatten().to(values.device)  # (W * K,)
    inverse = (1 / values.double())[:, :, None].expand(-1, -1, patches.shape[1]).flatten(1)
    total = inverse.new_zeros(len(values), height * width).index_add_(1, index, inverse)
    count = torch.bincount(index, minlength=height * width)
    return (count / total).nan_to_num(0, 0, 0).view(-1, height, width)


def _row(seen: WinFeatures, row: int) -> WinFeatures:
    one = slice(row, row + 1)
    return WinFeatures(
        seen.image[one], seen.patches[one], {name: each[one] for name, each in seen.windows.items()}
    )
