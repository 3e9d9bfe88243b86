"""Images are looked at batch by batch, and what is said of each is written down before the next batch."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from filo.errors import ImageError
from filo.files import readable
from filo.output import append_rows, to_record, write_pictures
from filo.pictures import Picture, count_pixels
from filo.prediction_state import take_up
from filo.predictor import FiLo
from filo.records import write_record
from filo.result import Result
from filo.worklist import Item, Worklist


def look_at_all(run: Path, filo: FiLo, work: Worklist, args: Namespace) -> int:
    """Look at the images that are not done yet; give how many these were.

    Raises:
        InputError: what is done is damaged, or the disk is full.
    """
    has_pictures = not args.no_pictures
    done, left = take_up(run, work, args.batch_size, count_pixels, has_pictures)
    if done:
        print(f"going on: {done} of {len(work)} images are done already")
    with tqdm(total=len(work), initial=done, desc="predict", unit="image", disable=None) as bar:
        for batch in left:
            records = []
            for item, answer in zip(batch, look(filo, batch), strict=True):
                records.append(to_record(item, answer))
                write_record(run, records[-1])  # first, so that no picture is left unlisted
                if isinstance(answer, Result):
                    if has_pictures:
                        write_pictures(run, records[-1], answer, args.heatmap_side)
                    answer.picture.close()
                said = answer.verdict if isinstance(answer, Result) else "failed"
                tqdm.write(f"{records[-1].image}: {said}", file=sys.stdout)
            append_rows(run, records)
            bar.update(len(batch))
    return len(work) - done


def look(filo: FiLo, batch: Sequence[Item]) -> list[Result | str]:
    """Look at a batch of one class: for each image its result, or why there is none."""
    pictures = [Picture(each.path, readable(each.path)) for each in batch]
    answers: dict[int, Result | str] = {}
    for i, (each, picture) in enumerate(zip(batch, pictures, strict=True)):
        try:
            if each.error:
                raise ImageError(each.error)
            picture.open()
        except ImageError as error:
            answers[i] = say_why(error, picture)
    good = [i for i in range(len(batch)) if i not in answers]
    try:
        found = filo.judge([pictures[i] for i in good], batch[0].class_name) if good else []
        answers |= dict(zip(good, found, strict=True))
    except ImageError as error:  # of one of them; the others are looked at by themselves
        for i in good:
            answers[i] = say_why(error, pictures[i]) if len(good) == 1 else look(filo, [batch[i]])[0]
    return [answers[i] for i in range(len(batch))]


def say_why(error: ImageError, picture: Picture) -> str:
    """Give an error in one line, without the image's name, which stands beside it everywhere."""
    text = str(error).removeprefix(str(picture.path)).lstrip(": ")
    return " ".join(text.split()).encode(errors="replace").decode()
