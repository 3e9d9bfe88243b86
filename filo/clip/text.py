"""How many prompts are encoded at once: over the tree of their common prefixes.

The text tower is causal, so a token's state depends on the tokens before it alone, and texts that begin
alike share the states of their common beginning. All texts of a class therefore become one tree, laid out
as one sequence: the position embedding goes by depth, attention reaches a node's ancestors only, features
are read at the leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filo.clip.attention import attend, feed_forward, project_qkv, set_dtype
from filo.errors import InputError

PLACEHOLDER = "X"
# letters for each token of the context that a text may have: ordinary words have four or five, and the
# tokenizer takes minutes for a word of many thousand
LETTERS = 16


@dataclass(frozen=True)
class PromptTree:
    """K texts as M nodes, or B such trees side by side, the smaller ones filled up (see `stack_trees`).

    Shape:
        tokens, depths: (M,) or (B, M), parents stand before their children
        sides: the same, which learned vectors belong to a node's text (normal or abnormal, say)
        reach: (M, M) or (B, M, M) boolean, row i is True at i and its ancestors
        leaves: (K,) or (B, K), the node of each text's end token
        leaf_sides: the same, the side of each text; -1 where filled up
    """

    tokens: Tensor
    depths: Tensor
    sides: Tensor
    reach: Tensor
    leaves: Tensor
    leaf_sides: Tensor

    def __len__(self) -> int:
        """The number of nodes."""
        return self.tokens.shape[-1]

    def to(self, device: torch.device) -> "PromptTree":
        return PromptTree(*(getattr(self, field.name).to(device) for field in fields(self)))


def grow_tree(texts: Sequence[Sequence[int]], sides: Sequence[int] | None = None) -> PromptTree:
    """Lay out token sequences, each cut after its end token, as the tree of their prefixes.

    Texts of different `sides` (default: all 0) share nothing, as different learned vectors stand before them.
    """
    sides = [0] * len(texts) if sides is None else list(sides)
    children: dict[tuple[int, int, int], int] = {}
    tokens, depths, owners, parents, leaves = [], [], [], [], []
    for text, side in zip(texts, sides, strict=True):
        node = -1
        for depth, token in enumerate(text):
            if (node, token, side) not in children:
                children[node, token, side] = len(tokens)
                tokens.append(token)
                depths.append(depth)
                owners.append(side)
                parents.append(node)
            node = children[node, token, side]
        leaves.append(node)
    reach = torch.eye(len(tokens), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            reach[node] |= reach[parent]
    numbers = (torch.tensor(each) for each in (tokens, depths, owners))
    return PromptTree(*numbers, reach, torch.tensor(leaves), torch.tensor(sides))


def stack_trees(trees: Sequence[PromptTree]) -> PromptTree:
    """Put trees of one device side by side; the smaller ones are filled up with nodes that reach themselves
    alone.
    """
    M, K = max(map(len, trees)), max(len(tree.leaves) for tree in trees)

    def stack(name: str, length: int, filler: int) -> Tensor:
        rows = [getattr(tree, name) for tree in trees]
        return torch.stack([F.pad(row, (0, length - len(row)), value=filler) for row in rows])

    reach = torch.eye(M, dtype=torch.bool, device=trees[0].reach.device).repeat(len(trees), 1, 1)
    for row, tree in zip(reach, trees, strict=True):
        row[: len(tree), : len(tree)] = tree.reach
    nodes = (stack(name, M, 0) for name in ("tokens", "depths", "sides"))
    return PromptTree(*nodes, reach, stack("leaves", K, 0), stack("leaf_sides", K, -1))


def group_by_size(sizes: Sequence[int], waste: float = 0.25) -> list[list[int]]:
    """Group trees, by index, that may be stacked without filling up more than the share `waste` of any."""
    groups: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if not groups or sizes[index] < (1 - waste) * sizes[groups[-1][0]]:
            groups.append([])
        groups[-1].append(index)
    return groups


class TextTower(nn.Module):
    """Walks open_clip's text transformer over a `PromptTree`.

    `model` is whatever holds `transformer`, `token_embedding`, `positional_embedding`, `ln_final` and
    `text_projection`: the flat open_clip CLIP itself or the separate tower of its other form.
    """

    def __init__(self, model: nn.Module, context_length: int) -> None:
        super().__init__()
        self.transformer = model.transformer
        self.token_embedding = model.token_embedding
        self.positional_embedding = model.positional_embedding
        self.ln_final = model.ln_final
        self.text_projection = model.text_projection
        self.context_length = context_length
        self.dtype = torch.float32

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Let the blocks multiply in another format; features come out in float32 as before."""
        set_dtype(self.transformer.resblocks, dtype)
        self.dtype = dtype

    @property
    def width(self) -> int:
        return self.token_embedding.embedding_dim

    def tokenize(self, texts: Sequence[str], n_ctx: int = 0) -> Tensor:
        """Give token ids (K, context length); `n_ctx` placeholders stand before each text.

        Raises:
            InputError: a text does not fit into the context (the tokenizer would cut it in silence).
        """
        prefix = " ".join([PLACEHOLDER] * n_ctx)
        full = [f"{prefix} {text}".strip() for text in texts]
        for text in texts:
            if len(text) > LETTERS * self.context_length:
                raise InputError(self._explain_length(text, n_ctx))
        ids = open_clip.tokenize(full, context_length=self.context_length + 1)
        for text, row in zip(texts, ids, strict=True):
            if row[self.context_length] != 0:
                raise InputError(self._explain_length(text, n_ctx))
        return ids[:, : self.context_length]

    def _explain_length(self, text: str, n_ctx: int) -> str:
        shown = text if len(text) <= 400 else f"{text[:400]}..."
        return (
            f"the text {shown!r} needs more than the {self.context_length} tokens of CLIP's context "
            f"({n_ctx} of them learned): shorten the description, or learn fewer by --n_ctx"
        )

    def grow(self, texts: Sequence[str], n_ctx: int = 0, sides: Sequence[int] | None = None) -> PromptTree:
        """Tokenise texts behind `n_ctx` placeholders and lay them out as a tree on the tower's device."""
        ids = self.tokenize(texts, n_ctx)
        ends = ids.argmax(1)  # the end token has the highest number
        tree = grow_tree([row[: end + 1].tolist() for row, end in zip(ids, ends, strict=True)], sides)
        return tree.to(self.token_embedding.weight.device)

    def forward(self, tree: PromptTree, ctx: Tensor | None = None, deep: Sequence[Tensor] = ()) -> Tensor:
        """Encode one tree for B images, or B trees for one image each: (B, K, D), not normalised.

        `ctx` (B, sides, n_ctx, T), or (B, n_ctx, T) where there is one side, takes the place of the token
        embeddings at depths 1..n_ctx. B is 1 for one tree without `ctx`. Each of `deep` (q, T) takes the
        place of the states at depths 1..q before one block, the first of them before the second block
        (AnomalyCLIP, section 3.2); those for which there is no block mean nothing.
        """
        x = self._embed(tree, ctx)  # (B, M, T)
        mask = tree.reach if tree.reach.ndim == 2 else tree.reach[:, None]
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            for number, block in enumerate(self.transformer.resblocks):
                if 0 < number <= len(deep):
                    x = _put_deep(tree, x, deep[number - 1])
                x = x + attend(block, *project_qkv(block, x), mask=mask)
                x = feed_forward(block, x)
        if tree.leaves.ndim == 1:
            x = x[:, tree.leaves]
        else:
            x = x.gather(1, tree.leaves[..., None].expand(-1, -1, x.shape[-1]))
        x = self.ln_final(x)
        if self.text_projection is None:
            return x
        if isinstance(self.text_projection, nn.Module):
            return self.text_projection(x)
        return x @ self.text_projection

    def _embed(self, tree: PromptTree, ctx: Tensor | None) -> Tensor:
        x = self.token_embedding(tree.tokens)
        x = x[None] if tree.tokens.ndim == 1 else x  # (1 or B, M, T)
        if ctx is not None:
            ctx = ctx[:, None] if ctx.ndim == 3 else ctx
            slots = (tree.depths >= 1) & (tree.depths <= ctx.shape[2])
            rows, nodes = slots.expand(len(ctx), -1).nonzero(as_tuple=True)
            sides, depths = (each.expand(len(ctx), -1)[rows, nodes] for each in (tree.sides, tree.depths))
            x = x.expand(len(ctx), -1, -1).index_put((rows, nodes), ctx[rows, sides, depths - 1])
        return x + self.positional_embedding[tree.depths]


def _put_deep(tree: PromptTree, x: Tensor, tokens: Tensor) -> Tensor:
    """Put tokens (q, T) over the states (B, M, T) of the nodes at depths 1..q."""
    places = tree.depths - 1
    is_taken = (places >= 0) & (places < len(tokens))
    return torch.where(is_taken[..., None], tokens[places.clamp(0, len(tokens) - 1)].to(x.dtype), x)
