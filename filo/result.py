"""What FiLo says about one image, and how that is drawn."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from filo.pictures import Picture
from filo.plots import Scale, overlay, with_bar
from filo.records import fit


@dataclass(frozen=True, eq=False)
class Result:
    """What FiLo says about one image of W x H pixels.

    Attributes:
        class_name: the class it was taken for an image of
        score: higher is more anomalous; comparable within a class, `official` about [-0.4, 0.9]
        threshold: from which score on an image is anomalous; None where nobody calibrated it
        undecided: why there is no threshold, in one line; "" if there is one
        normal_similarity: cosine of the image with what is normal
        kinds: the class's descriptions with their cosines, the most likely first; empty where nobody
            described the class
        position: where the anomaly lies if there is one, such as "top left"
        boxes: of the detector, those that speak of an anomaly: `corners` XYXY in pixels of the image,
            `score`, `phrase`; the most likely first
        size: (W, H)
        square_map: (S, S) float32, the map as the model gives it
        scale: of heatmaps, the same for every image
        picture: the image itself
    """

    class_name: str
    score: float
    threshold: float | None
    undecided: str
    normal_similarity: float
    kinds: tuple[tuple[str, float], ...]
    position: str
    boxes: tuple[dict, ...]
    size: tuple[int, int]
    square_map: np.ndarray = field(repr=False)
    scale: Scale = field(repr=False)
    picture: Picture = field(repr=False)

    @property
    def is_anomalous(self) -> bool | None:
        """The decision; None without a threshold."""
        return None if self.threshold is None else self.score >= self.threshold

    @cached_property
    def anomaly_map(self) -> np.ndarray:
        """The map in the image's own size, (H, W) float32, 0 normal to 1 anomalous."""
        whole = Image.fromarray(self.square_map)
        return np.asarray(whole.resize(self.size, Image.Resampling.BILINEAR)).clip(0, 1)

    @property
    def verdict(self) -> str:
        """Score, decision, and unless that is normal the most likely kind and the position, in one line."""
        decision = {None: "", True: ", anomalous", False: ", normal"}[self.is_anomalous]
        if self.is_anomalous is False:
            return f"score {self.score:.4f}{decision}"
        kind = f"most like {self.kinds[0][0]}, " if self.kinds else ""
        return f"score {self.score:.4f}{decision}: {kind}at {self.position}"

    def heatmap(self, longest_side: int | None = None, with_verdict: bool = True) -> Image.Image:
        """Draw the map and the boxes over the image, with the scale beside it and the verdict below.

        The image is shrunk to `longest_side` pixels where it is larger; by default it keeps its size.
        """
        image = self.picture.open()
        size = fit(image.size, longest_side or max(image.size))
        image = image if size == image.size else image.resize(size, reducing_gap=2.0)
        factor = size[0] / self.size[0]
        boxes = [box | {"corners": [corner * factor for corner in box["corners"]]} for box in self.boxes]
        caption = self.verdict if with_verdict else ""
        drawn = overlay(image, self.square_map, self.scale, boxes=boxes, caption=caption)
        return with_bar(drawn, self.scale)
