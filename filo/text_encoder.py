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
        normal, abnormal: one (K, D) for each image, its texts one by one, L2-normalised
    """

    pair: Tensor
    normal: list[Tensor]
    abnormal: list[Tensor]


class TextEncoder:
    """Encodes the texts of any of `texts`' classes; their prefix trees are kept. Holds no weights."""

    def __init__(self, tower: TextTower, texts: Mapping[str, ClassTexts]) -> None:
        self.tower, self.texts = tower, dict(texts)
        self._trees: dict[tuple, PromptTree] = {}  # by class, positions, length of what is learned, device

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
        trees = [self._tree(*each, n_ctx) for each in zip(class_names, positions, strict=True)]
        pair = torch.empty(len(image), 2, image.shape[1], device=image.device)
        sides: list[list[Tensor]] = [[image] * len(trees) for _ in range(2)]
        for rows in group_by_size([len(tree) for tree in trees]):
            index = torch.tensor(rows, device=image.device)
            of_rows, features = self._encode(
                [trees[row] for row in rows], None if ctx is None else ctx[index]
            )
            pair = pair.index_copy(0, index, of_rows.expand(len(rows), -1, -1))
            for row, each in zip(rows, features.expand(len(rows), -1, -1), strict=True):
                for side in (0, 1):
                    own = trees[row].leaf_sides == side
                    sides[side][row] = each[: len(own)][own]
        return TextFeatures(pair, *sides)

    def _tree(self, class_name: str, positions: tuple[int, ...], n_ctx: int) -> PromptTree:
        """Give the tree of a class's texts: side 0 the normal ones, 1 the abnormal ones at some positions."""
        key = (class_name, positions, n_ctx, self.tower.positional_embedding.device)
        if key not in self._trees:
            texts = self.texts_of(class_name)
            normal, abnormal = texts.normal, texts.abnormal_at(positions)
            sides = [0] * len(normal) + [1] * len(abnormal)
            self._trees[key] = self.tower.grow([*normal, *abnormal], n_ctx, sides)
        return self._trees[key]

    def _encode(self, trees: Sequence[PromptTree], ctx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode each image's tree: per side normalise, average, normalise, (B, 2, D); and every text by
        itself, (B, K, D). B is 1 for one tree without `ctx`.
        """
        tree = trees[0] if all(tree is trees[0] for tree in trees) else stack_trees(trees)
        features = F.normalize(self.tower(tree, ctx), dim=-1)
        member = torch.stack([tree.leaf_sides == side for side in (0, 1)], dim=-2).to(features)  # (.., 2, K)
        mean = member / member.sum(-1, keepdim=True) @ features
        return F.normalize(mean, dim=-1), features

    def similarities(
        self,
        image: Tensor,
        text: TextFeatures,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]],
    ) -> tuple[Tensor, ...]:
        """Compare each image's unit feature (B, D) with the mean of its normal texts, then with that of each
        description's texts: (1 + K,) cosines for each image (the paper's figure 4).
        """
        found = []
        for i, (name, of_image) in enumerate(zip(class_names, positions, strict=True)):
            texts = self.texts_of(name)
            kind = torch.tensor(texts.kind_of_each(of_image), device=image.device)
            groups = [text.normal[i], *(text.abnormal[i][kind == k] for k in range(len(texts.kinds)))]
            means = F.normalize(torch.stack([group.mean(0) for group in groups]), dim=-1)
            found.append(means @ image[i])
        return tuple(found)
