"""How many prompts are encoded at once: over the tree of their common prefixes.

The text tower is causal, so a token's state depends on the tokens before it alone, and texts that begin
alike share the states of their common beginning. All texts of a class therefore become one tree, laid out
as one sequence: the position embedding goes by depth, attention reaches a node's ancestors only, features
are read at the leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import open_clip
import torch
from torch import Tensor, nn

from filo.clip.attention import attend, feed_forward, project_qkv
from filo.errors import InputError

PLACEHOLDER = "X"


@dataclass(frozen=True)
class PromptTree:
    """K texts of L tokens at most, as M nodes.

    Shape:
        tokens, depths: (M,), parents stand before their children
        reach: (M, M) boolean, row i is True at i and its ancestors
        leaves: (K,), the node of each text's end token
    """

    tokens: Tensor
    depths: Tensor
    reach: Tensor
    leaves: Tensor

    def to(self, device: torch.device) -> "PromptTree":
        return PromptTree(*(t.to(device) for t in (self.tokens, self.depths, self.reach, self.leaves)))


def grow_tree(texts: Sequence[Sequence[int]]) -> PromptTree:
    """Lay out token sequences, each cut after its end token, as the tree of their prefixes."""
    children: dict[tuple[int, int], int] = {}
    tokens, depths, parents, leaves = [], [], [], []
    for text in texts:
        node = -1
        for depth, token in enumerate(text):
            if (node, token) not in children:
                children[node, token] = len(tokens)
                tokens.append(token)
                depths.append(depth)
                parents.append(node)
            node = children[node, token]
        leaves.append(node)
    reach = torch.eye(len(tokens), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            reach[node] |= reach[parent]
    return PromptTree(torch.tensor(tokens), torch.tensor(depths), reach, torch.tensor(leaves))


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
        ids = open_clip.tokenize(full, context_length=self.context_length + 1)
        for text, row in zip(texts, ids, strict=True):
            if row[self.context_length] != 0:
                raise InputError(
                    f"the text {text!r} needs more than the {self.context_length} tokens of CLIP's context "
                    f"({n_ctx} of them learned): shorten the description, or learn fewer by --n_ctx"
                )
        return ids[:, : self.context_length]

    def grow(self, texts: Sequence[str], n_ctx: int = 0) -> PromptTree:
        """Tokenise texts behind `n_ctx` placeholders and lay them out as a tree on the tower's device."""
        ids = self.tokenize(texts, n_ctx)
        ends = ids.argmax(1)  # the end token has the highest number
        tree = grow_tree([row[: end + 1].tolist() for row, end in zip(ids, ends, strict=True)])
        return tree.to(self.token_embedding.weight.device)

    def forward(self, tree: PromptTree, ctx: Tensor | None = None) -> Tensor:
        """Encode a tree into (B, K, D), not normalised; B is 1 without `ctx`.

        `ctx` (B, n_ctx, T) takes the place of the token embeddings at depths 1..n_ctx.
        """
        x = self._embed(tree, ctx)  # (B, M, T)
        for block in self.transformer.resblocks:
            x = x + attend(block, *project_qkv(block, x), mask=tree.reach)
            x = feed_forward(block, x)
        x = self.ln_final(x[:, tree.leaves])
        if self.text_projection is None:
            return x
        if isinstance(self.text_projection, nn.Module):
            return self.text_projection(x)
        return x @ self.text_projection

    def _embed(self, tree: PromptTree, ctx: Tensor | None) -> Tensor:
        x = self.token_embedding(tree.tokens)[None]  # (1, M, T)
        if ctx is not None:
            slots = (tree.depths >= 1) & (tree.depths <= ctx.shape[1])
            where = slots.nonzero().flatten()
            x = x.expand(len(ctx), -1, -1).index_copy(1, where, ctx[:, tree.depths[where] - 1])
        return x + self.positional_embedding[tree.depths]
