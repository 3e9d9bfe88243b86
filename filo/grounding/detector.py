"""How Grounding DINO is run: images and what to look for -> boxes with a probability for every word (3.3).

The model is groundingdino-py's; `filo.grounding.load` puts it together.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as F

from filo.errors import InputError
from filo.grounding.boxes import Detection

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
LONGEST = 1333  # pixels
MAX_TOKENS = 256  # of a caption; the model would cut the rest off in silence


def to_caption(phrases: Sequence[str]) -> str:
    """Join what is looked for into Grounding DINO's form: lower case, phrases apart by ` . `, a full stop."""
    caption = " . ".join(phrases).lower().strip()
    return caption if caption.endswith(".") else caption + "."


class GroundingDino:
    """A frozen detector for images of any size, their shorter side brought to `side` pixels.

    Batches must be of one size after that: padding would change what the model sees.
    """

    def __init__(self, model: nn.Module, side: int, device: torch.device | str = "cpu") -> None:
        model.bert = _EncodeOnce(model.bert)
        self.model, self.side, self.device = model.to(device).eval(), side, torch.device(device)

    def explain_misfit(self, size: tuple[int, int]) -> str | None:
        """Say why the model cannot look at an image of (width, height); None if it can."""
        width, height = target_size(size, self.side)
        if min(width, height) < 1:
            return f"{size[0]}x{size[1]} pixels are too thin a strip for the detector"
        places, wanted = _count_places(width, height, self.model.num_feature_levels), self.model.num_queries
        if places >= wanted:
            return None
        return (
            f"at {width}x{height} pixels the detector has {places} places to look at and wants {wanted}: "
            "take a larger --image_size, or go without by --detector none"
        )

    def detect(self, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[Detection]:
        """Look for `phrases` in RGB images that `target_size` brings to one size.

        Phrases that need more than 256 tokens go through in several captions. What is said of them is put
        together: the boxes of all, each with probability 0 for the tokens of the captions it is not of.

        Raises:
            InputError: a phrase is too long by itself, or the answer is not finite.
        """
        pixels = torch.stack([self._prepare(image) for image in images]).to(self.device)
        captions = [to_caption(part) for part in split_phrases(phrases, self._count_tokens)]
        parts = [self._run(pixels, caption) for caption in captions]
        return [_merge([part[i] for part in parts]) for i in range(len(images))]

    def _count_tokens(self, phrases: Sequence[str]) -> int:
        return len(self.model.tokenizer(to_caption(phrases))["input_ids"])

    def _prepare(self, image: Image.Image) -> Tensor:
        width, height = target_size(image.size, self.side)
        return F.normalize(F.to_tensor(F.resize(image, [height, width])), MEAN, STD)

    @torch.inference_mode()
    def _run(self, pixels: Tensor, caption: str) -> list[Detection]:
        tokenizer = self.model.tokenizer
        tokens = tuple(tokenizer.convert_ids_to_tokens(tokenizer(caption)["input_ids"]))
        with quiet():
            answer = self.model(pixels, captions=[caption] * len(pixels))
        boxes = answer["pred_boxes"].float().cpu().numpy()
        probabilities = answer["pred_logits"][:, :, : len(tokens)].float().sigmoid().cpu().numpy()
        if not (np.isfinite(boxes).all() and np.isfinite(probabilities).all()):
            raise InputError(f"the detector's answer to {caption!r} is not finite; are its weights damaged?")
        return [Detection(b, p, tokens) for b, p in zip(boxes, probabilities, strict=True)]


class _EncodeOnce(nn.Module):
    """BERT for a batch with one caption: it is run on the first row, and only when the caption changes."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert
        self.ids: Tensor | None = None
        self.encoded: Tensor | None = None

    def forward(self, input_ids: Tensor, **others: Tensor) -> dict[str, Tensor]:
        if self.ids is None or not torch.equal(self.ids, input_ids[:1]):
            first = {name: value[:1] for name, value in others.items()}
            self.encoded = self.bert(input_ids=input_ids[:1], **first)["last_hidden_state"]
            self.ids = input_ids[:1].clone()
        return {"last_hidden_state": self.encoded.expand(len(input_ids), -1, -1)}


def target_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Give width and height with the shorter side at `side`, unless the longer one would exceed 1333."""
    shorter, longer = min(size), max(size)
    if longer / shorter * side > LONGEST:
        side = round(LONGEST * shorter / longer)
    width, height = size
    if width < height:
        return side, int(side * height / width)
    return int(side * width / height), side


def _count_places(width: int, height: int, levels: int) -> int:
    """Count the cells of all feature maps: the first has one for 8 x 8 pixels, each further one a quarter."""
    places, width, height = 0, -(-width // 4), -(-height // 4)
    for _ in range(levels):
        width, height = -(-width // 2), -(-height // 2)
        places += width * height
    return places


def split_phrases(
    phrases: Sequence[str], count_tokens: Callable[[Sequence[str]], int], limit: int = MAX_TOKENS
) -> list[tuple[str, ...]]:
    """Cut a list of phrases into runs whose captions have at most `limit` tokens, as few as possible.

    Raises:
        InputError: one phrase alone is longer.
    """
    runs: list[tuple[str, ...]] = []
    current: tuple[str, ...] = ()
    for phrase in phrases:
        if current and count_tokens((*current, phrase)) > limit:
            runs.append(current)
            current = ()
        current = (*current, phrase)
        if len(current) == 1 and count_tokens(current) > limit:
            raise InputError(
                f"the description {phrase[:60]!r}... needs {count_tokens(current)} tokens, more than the "
                f"{limit} of Grounding DINO's text encoder: shorten it"
            )
    return [*runs, current]


def _merge(parts: Sequence[Detection]) -> Detection:
    """Put the answers to several captions together, each one's tokens in columns of their own."""
    if len(parts) == 1:
        return parts[0]
    boxes = np.concatenate([part.boxes for part in parts])
    tokens = tuple(token for part in parts for token in part.tokens)
    probabilities = np.zeros((len(boxes), len(tokens)), np.float32)
    row = column = 0
    for part in parts:
        rows, columns = part.probabilities.shape
        probabilities[row : row + rows, column : column + columns] = part.probabilities
        row, column = row + rows, column + columns
    return Detection(boxes, probabilities, tokens)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings about the package's use of older calls from the user, who can do nothing about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
