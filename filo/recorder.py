"""How an evaluation writes down what was said about every image of a dataset (`filo.records`)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from filo.evaluate import Outcome
from filo.files import readable
from filo.grounding.boxes import Boxes, BoxRules
from filo.meta import Entry
from filo.prompts import ClassTexts
from filo.records import Record, describe_boxes, rank_kinds, write_record, write_small
from filo.transforms import image_size, open_image, open_mask


class Recorder:
    """Appends a record for every image to the run; with `pictures` keeps the image and its map in small.

    `boxes` are those a detector found in every image, None without a detector.
    """

    def __init__(
        self,
        run: Path,
        root: Path,
        texts: Mapping[str, ClassTexts],
        rules: BoxRules,
        boxes: Mapping[Entry, Boxes] | None = None,
        pictures: bool = False,
    ) -> None:
        self.run, self.root, self.texts, self.rules = run, root.resolve(), texts, rules
        self.boxes, self.pictures = boxes or {}, pictures

    def __call__(self, index: int, entry: Entry, outcome: Outcome) -> None:
        """Take down one image.

        Raises:
            InputError: it cannot be read, or the disk is full.
        """
        texts, size = self.texts[entry.class_name], image_size(entry.image)
        if self.pictures:
            self._keep(index, entry, outcome, size)
        record = Record(
            index=index,
            image=readable(entry.image.relative_to(self.root)),
            class_name=entry.class_name,
            size=size,
            score=outcome.score,
            position=texts.positions[outcome.position],
            normal_similarity=round(outcome.similarities[0], 6),
            kinds=rank_kinds(texts, outcome.similarities),
            boxes=describe_boxes(self.boxes.get(entry), texts, self.rules, size),
            label=entry.label,
            kind=entry.kind,
            has_mask=entry.has_mask,
        )
        write_record(self.run, record)

    def _keep(self, index: int, entry: Entry, outcome: Outcome, size: tuple[int, int]) -> None:
        mask = np.asarray(open_mask(entry.mask, size)) > 0 if entry.mask else None
        write_small(self.run, index, open_image(entry.image), outcome.anomaly_map.numpy(), mask)
