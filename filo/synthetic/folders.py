"""How do the demo sets lie on disk? As the real MVTec AD and VisA do, file for file."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from filo.errors import InputError
from filo.synthetic.canvas import Array
from filo.synthetic.classes import DATASETS, ClassSpec
from filo.synthetic.picture import GOOD, draw_picture

VERSION = 4  # raise it whenever a picture changes, so that an older set is not taken for a new one
STAMP = "synthetic.json"
PARTIAL = ".partial-"
SMALLEST, LARGEST = 64, 2048  # smaller, thin defects vanish; larger only takes memory
MOST = 1000  # pictures of a kind in one class: MVTec file names have three digits


@dataclass(frozen=True)
class Plan:
    """What is drawn: the seed, the picture side in pixels and the number of pictures of each class."""

    seed: int
    side: int
    train: int
    normal: int
    anomalous: int

    def check(self) -> None:
        """Raise InputError for numbers that make no set."""
        if not SMALLEST <= self.side <= LARGEST:
            raise InputError(f"side {self.side}: wanted {SMALLEST} to {LARGEST} pixels")
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: wanted 0 or more")
        for name in ("train", "normal", "anomalous"):
            count = getattr(self, name)
            if not 1 <= count <= MOST:
                raise InputError(f"{count} {name} pictures of each class: wanted 1 to {MOST}")


def make_demo(
    out: Path,
    seed: int = 0,
    side: int = 160,
    normal: int = 10,
    anomalous: int = 12,
    train: int = 6,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Draw both sets below `out` and return the root of each, {"mvtec": ..., "visa": ...}.

    Each class gets `train` normal pictures for training, `normal` and `anomalous` ones for testing. The same
    arguments give the same bytes. A finished set of the same arguments is kept; any other folder that is
    not empty is refused with InputError, and so is a folder that cannot be written. With `overwrite` another
    or damaged demo set is drawn anew; a folder that holds anything else is refused all the same.
    """
    out, plan = Path(out), Plan(seed, side, train, normal, anomalous)
    plan.check()
    try:
        if overwrite:
            clear_other(out, plan)
        if not is_finished(out, plan):
            write_sets(out, plan)
    except OSError as error:
        raise InputError(f"{out}: cannot write the demo sets there: {error.strerror or error}") from error
    return {dataset: out / dataset for dataset in DATASETS}


def stamp_of(plan: Plan) -> dict[str, int]:
    """Return what tells one demo set from another."""
    return {"version": VERSION, **asdict(plan)}


def is_finished(out: Path, plan: Plan) -> bool:
    """Return whether `out` holds this very set; raise InputError if it holds anything else."""
    if not out.is_dir():
        if out.exists():
            raise InputError(f"{out} is a file; wanted a new folder for the demo sets")
        return False
    entries = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if not entries:
        return False
    if STAMP not in entries:
        raise InputError(f"{out} is not a demo set (it holds {entries[0]} but no {STAMP}); name a new folder")
    try:
        found = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{out / STAMP} is damaged; remove {out} or name a new folder") from error
    if found != stamp_of(plan):
        wanted, seen = (json.dumps(stamp).strip("{}") for stamp in (stamp_of(plan), found))
        raise InputError(
            f"{out} holds a demo set of ({seen}), not of ({wanted}); remove it or name a new folder"
        )
    for dataset in DATASETS:
        if not (out / dataset).is_dir():
            raise InputError(f"{out} has lost its folder {dataset}; remove {out} and run this again")
    return True


def clear_other(out: Path, plan: Plan) -> None:
    """Remove a demo set that is not this very one; its stamp must say that it is one."""
    try:
        is_finished(out, plan)
    except InputError:
        names = [path.name for path in out.iterdir()] if out.is_dir() else []
        if is_stamped(out) and all(name in (*DATASETS, STAMP) or name.startswith(".") for name in names):
            shutil.rmtree(out)


def is_stamped(out: Path) -> bool:
    """Return whether the stamp is one of ours, whatever its numbers."""
    try:
        found = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() == {"version", *Plan.__dataclass_fields__}


def write_sets(out: Path, plan: Plan) -> None:
    """Draw everything in a folder beside the final one, then rename it: no set is ever half there."""
    partial = out.with_name(f"{PARTIAL}{out.name}-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        total = sum(map(len, DATASETS.values())) * (plan.train + plan.normal + plan.anomalous)
        with tqdm(total=total, desc="drawing", unit="picture", disable=None) as progress:

            def draw(job: tuple[str, ClassSpec]) -> None:
                dataset, spec = job
                WRITERS[dataset](partial / dataset, spec, plan, progress.update)

            jobs = [(dataset, spec) for dataset, specs in DATASETS.items() for spec in specs]
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # much of it leaves Python's lock
                for _ in pool.map(draw, jobs):
                    pass
        write_split(partial / "visa", plan)
        (partial / STAMP).write_text(json.dumps(stamp_of(plan), indent=2) + "\n", encoding="utf-8")
        if out.is_dir():  # empty, or nothing but hidden files
            shutil.rmtree(out)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def anomalies(spec: ClassSpec, count: int) -> Iterator[tuple[str, int]]:
    """Yield (kind, index within the kind) of `count` anomalous pictures, the kinds taking turns."""
    for number in range(count):
        index, place = divmod(number, len(spec.kinds))
        yield spec.kinds[place], index


def save(path: Path, pixels: Array) -> None:
    """Write one picture, making its folder; JPEG as finely as it goes without being wasteful."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 95, "subsampling": 0} if path.suffix == ".JPG" else {}
    Image.fromarray(pixels).save(path, **options)


def write_mvtec(root: Path, spec: ClassSpec, plan: Plan, tick: Callable[[], object]) -> None:
    """Write one class as MVTec AD does: a folder for each kind, masks of 0 and 255 beside them."""
    folder = root / spec.name
    jobs = [("train", GOOD, index) for index in range(plan.train)]
    jobs += [("test", GOOD, index) for index in range(plan.normal)]
    jobs += [("test", kind, index) for kind, index in anomalies(spec, plan.anomalous)]
    for split, kind, index in jobs:
        picture = draw_picture("mvtec", spec, split, kind, index, seed=plan.seed, side=plan.side)
        save(folder / split / kind / f"{index:03d}.png", picture.image)
        if kind != GOOD:
            mask = picture.mask.astype(np.uint8) * 255
            save(folder / "ground_truth" / kind / f"{index:03d}_mask.png", mask)
        tick()


def write_visa(root: Path, spec: ClassSpec, plan: Plan, tick: Callable[[], object]) -> None:
    """Write one class as VisA does: JPEG pictures and masks whose value is the number of the kind."""
    data = root / spec.name / "Data"
    jobs = [("train", index) for index in range(plan.train)] + [
        ("test", index) for index in range(plan.normal)
    ]
    for number, (split, index) in enumerate(jobs):
        picture = draw_picture("visa", spec, split, GOOD, index, seed=plan.seed, side=plan.side)
        save(data / "Images" / "Normal" / f"{number:04d}.JPG", picture.image)
        tick()
    for number, (kind, index) in enumerate(anomalies(spec, plan.anomalous)):
        picture = draw_picture("visa", spec, "test", kind, index, seed=plan.seed, side=plan.side)
        save(data / "Images" / "Anomaly" / f"{number:04d}.JPG", picture.image)
        mask = picture.mask.astype(np.uint8) * (spec.kinds.index(kind) + 1)
        save(data / "Masks" / "Anomaly" / f"{number:04d}.png", mask)
        tick()


def write_split(root: Path, plan: Plan) -> None:
    """Write split_csv/1cls.csv, VisA's list of all pictures; paths are relative to the root."""
    (root / "split_csv").mkdir(parents=True)
    with open(root / "split_csv" / "1cls.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("object", "split", "label", "image", "mask"))
        for spec in DATASETS["visa"]:
            data = f"{spec.name}/Data"
            for number in range(plan.train + plan.normal):
                split = "train" if number < plan.train else "test"
                rows.writerow((spec.name, split, "normal", f"{data}/Images/Normal/{number:04d}.JPG", ""))
            for number in range(plan.anomalous):
                image, mask = (
                    f"{data}/Images/Anomaly/{number:04d}.JPG",
                    f"{data}/Masks/Anomaly/{number:04d}.png",
                )
                rows.writerow((spec.name, "test", "anomaly", image, mask))


WRITERS = {"mvtec": write_mvtec, "visa": write_visa}
