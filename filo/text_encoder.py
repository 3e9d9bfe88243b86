"""What the texts of a class mean: the feature of each, and the pair [F_n, F_a] (FiLo, section 3.2)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from filo.clip.text import PromptTree, TextTower, group_by_size, stack_trees
from filo.errors import InputError
from filo.prompts import ClassTexts


class TextFeatures(NamedTuple):
    """What is known of B images' texts.

    Shape:
        pair: (B, 2, D), [F_n, F_a]: the means of either side, L2-normalised
        texts: one (M, D) for each image, its M texts one by one, normal ones first, L2-normalised
        kinds: one (1 + K, M) for each image: 1 in row 0 for its normal texts, in row 1 + k for those of its
            description k, otherwise 0
    """

    pair: Tensor
    texts: list[Tensor]
    kinds: list[Tensor]


class _Texts(NamedTuple):
    """The texts of a class at some positions, laid out: their tree, and their `TextFeatures.kinds`."""

    tree: PromptTree
    kinds: Tensor


class TextEncoder:
    """Encodes the texts of any of `texts`' classes; their prefix trees are kept. Holds no weights."""

    def __init__(self, tower: TextTower, texts: Mapping[str, ClassTexts]) -> None:
        self.tower, self.texts = tower, texts
        self._kept: dict[tuple, _Texts] = {}  # by class, positions, length of what is learned, device

    def texts_of(self, class_name: str) -> ClassTexts:
        """Give a class's texts.

        Raises:
            InputError: there are none.
        """
        if class_name not in self.texts:
            raise InputError(f"no texts for the class {class_name!r}; known: {', '.join(self.texts)}")
        return self.texts[class_name]

    def encode(
        self,
        image: Tensor,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        n_ctx: int = 0,
        ctx: Tensor | None = None,
    ) -> TextFeatures:
        """Encode what belongs to B images (B, D) of given classes.

        An image's positions are indices into `ClassTexts.positions`; none at all stands for all of them.
        `ctx` (B, 2, n_ctx, T) are the vectors learned for the normal and the abnormal texts.
        """
        if len(class_names) != len(image):
            raise ValueError(f"{len(image)} images but {len(class_names)} class names")
        positions = [()] * len(class_names) if positions is None else [tuple(each) for each in positions]
        own = [self._lay_out(*each, n_ctx) for each in zip(class_names, positions, strict=True)]
        trees, kinds = [each.tree for each in own], [each.kinds for each in own]
        pair = torch.empty(len(image), 2, image.shape[1], device=image.device)
        texts: dict[int, Tensor] = {}
        for rows in group_by_size([len(tree) for tree in trees]):
            index = torch.tensor(rows, device=image.device)
            of_rows, features = self._encode(
                [trees[row] for row in rows], None if ctx is None else ctx[index]
            )
            pair = pair.index_copy(0, index, of_rows.expand(len(rows), -1, -1))
            for row, each in zip(rows, features.expand(len(rows), -1, -1), strict=True):
                texts[row] = each[: len(trees[row].leaves)]
        return TextFeatures(pair, [texts[row] for row in range(len(own))], kinds)

    def _lay_out(self, class_name: str, positions: tuple[int, ...], n_ctx: int) -> _Texts:
        """Lay a class's texts out: side 0 the normal ones, 1 the abnormal ones at some positions."""
        device = self.tower.positional_embedding.device
        key = (class_name, positions, n_ctx, device)
        if key not in self._kept:
            texts = self.texts_of(class_name)
            normal, abnormal = texts.normal, texts.abnormal_at(positions)
            sides = [0] * len(normal) + [1] * len(abnormal)
            tree = self.tower.grow([*normal, *abnormal], n_ctx, sides)
            kind_of_each = torch.tensor(texts.kind_of_each(positions))
            described = kind_of_each == torch.arange(len(texts.kinds))[:, None]  # a general one is of no kind
            kinds = torch.block_diag(torch.ones(1, len(normal)), described.float())
            self._kept[key] = _Texts(tree, kinds.to(device))
        return self._kept[key]

    def _encode(self, trees: Sequence[PromptTree], ctx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode each image's tree: per side normalise, average, normalise, (B, 2, D); and every text by
        itself, (B, K, D). B is 1 for one tree without `ctx`.
        """
        tree = trees[0] if all(tree is trees[0] for tree in trees) else stack_trees(trees)
        features = F.normalize(self.tower(tree, ctx), dim=-1)
        member = torch.stack([tree.leaf_sides == side for side in (0, 1)], dim=-2).to(features)  # (.., 2, K)
        mean = member / member.sum(-1, keepdim=True) @ features
        return F.normalize(mean, dim=-1), features


def similarities(image: Tensor, text: TextFeatures) -> tuple[Tensor, ...]:
    """Compare each image's unit feature (B, D) with the mean of its normal texts, then with that of each
    description's texts: (1 + K,) cosines for each image (the paper's figure 4).
    """
    each = zip(image, text.texts, text.kinds, strict=True)
    return tuple(F.normalize(kinds @ texts, dim=-1) @ own for own, texts, kinds in each)
