"""What boxes and phrases look like in the files that MMDetection reads: ODVG lines and COCO.

ODVG is documented in MMDetection's configs/mm_grounding_dino/usage.md (boxes XYXY), COCO in its
docs/en/advanced_guides/customize_dataset.md (boxes XYWH). In both a box is in pixels from the image's upper
left corner, and its right and lower edges lie behind its last pixels.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from filo.grounding.detector import to_caption
from filo.grounding.regions import Regions

# kinds that say no more than that something is wrong
UNTOLD = {"", "abnormal", "anomalous", "anomaly", "bad", "combined", "defect", "defective", "mixed", "ng"}


@dataclass(frozen=True)
class Picture:
    """One image as the files tell of it: `name` is its path below the dataset's root, `phrase` what all its
    boxes show.
    """

    name: str
    width: int
    height: int
    class_name: str
    phrase: str
    regions: Regions

    @property
    def has_boxes(self) -> bool:
        return len(self.regions.boxes) > 0


def name_kind(kind: str, general: str) -> str:
    """Turn a kind of meta.json into words, lower case and without punctuation, or into the `general` word if
    it tells nothing.
    """
    words = re.sub(r"[\W_]+", " ", kind).strip().lower()
    return general if words in UNTOLD or not re.search(r"[^\W\d]", words) else words


def list_labels(pictures: Sequence[Picture]) -> list[str]:
    """Give every phrase that a box has, once, in the order of the pictures."""
    return list(dict.fromkeys(picture.phrase for picture in pictures if picture.has_boxes))


def make_captions(
    pictures: Sequence[Picture], general: Sequence[str], phrases: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Write the caption of every class: what the detector is given for it in a test, and what its boxes show.

    `phrases` are those of a test, class by class, the `general` words first. Phrases of boxes that do not
    stand in them come right after the general words, where no limit on a caption's length cuts them off.
    """
    captions = {}
    for class_name, given in phrases.items():
        shown = list_labels([picture for picture in pictures if picture.class_name == class_name])
        unsaid = [phrase for phrase in shown if not find_spans(to_caption(given), phrase)]
        captions[class_name] = to_caption([*general, *unsaid, *given[len(general) :]])
    return captions


def find_spans(caption: str, phrase: str) -> list[list[int]]:
    """Give start and end of every place where `phrase` stands in a caption as whole words."""
    return [list(match.span()) for match in re.finditer(rf"(?<!\w){re.escape(phrase)}(?!\w)", caption)]


def to_grounding(picture: Picture, caption: str, general: str) -> dict:
    """Write the ODVG line of an image with its caption.

    Its boxes belong to every place that names their kind, and to the `general` word, which is true of all.
    """
    spans = sorted(span for phrase in {picture.phrase, general} for span in find_spans(caption, phrase))
    boxes = picture.regions.boxes.tolist()
    region = {"bbox": boxes, "phrase": picture.phrase, "tokens_positive": spans}
    return _header(picture) | {"grounding": {"caption": caption, "regions": [region] if boxes else []}}


def to_detection(picture: Picture, labels: Sequence[str]) -> dict:
    """Write the ODVG line of an image with labels, counted from 0."""
    instances = [
        {"bbox": box, "label": labels.index(picture.phrase), "category": picture.phrase}
        for box in picture.regions.boxes.tolist()
    ]
    return _header(picture) | {"detection": {"instances": instances}}


def _header(picture: Picture) -> dict:
    return {"filename": picture.name, "height": picture.height, "width": picture.width}


def to_label_map(labels: Sequence[str]) -> dict[str, str]:
    return {str(i): label for i, label in enumerate(labels)}


def to_coco(pictures: Sequence[Picture], labels: Sequence[str], description: str) -> dict:
    """Write a COCO file of boxes: ids from 1, `area` in defect pixels, `segmentation` empty."""
    images, annotations = [], []
    for image_id, picture in enumerate(pictures, 1):
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": image_id, "file_name": picture.name, **size})
        regions = zip(picture.regions.boxes.tolist(), picture.regions.areas.tolist(), strict=True)
        for (x1, y1, x2, y2), area in regions:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "segmentation": [], "iscrowd": 0}
            label = {"image_id": image_id, "category_id": labels.index(picture.phrase) + 1}
            annotations.append({"id": len(annotations) + 1, **label, **box})
    categories = [{"id": i, "name": label, "supercategory": "anomaly"} for i, label in enumerate(labels, 1)]
    parts = {"images": images, "annotations": annotations, "categories": categories}
    return {"info": {"description": description}, "licenses": [], **parts}
