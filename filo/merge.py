"""Put the shards of a prediction together, once all are done: one table, one list of what failed, one report.

python -m filo.predict --list a_million.txt --shard 1/2 --class nut --ckpt_path filo.safetensors --out big
python -m filo.predict --list a_million.txt --shard 2/2 --class nut --ckpt_path filo.safetensors --out big
python -m filo.merge big

Leaves with status 0 if every image was done, 1 if some failed, 2 if none could be done or a shard is missing.
"""

import argparse
import heapq
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filo import options
from filo.errors import InputError, exit_clearly
from filo.files import readable, write_atomically, write_json, write_lines
from filo.image_list import to_line
from filo.output import write_table
from filo.records import Record, iterate_records, small_name, write_records
from filo.report import write_report
from filo.resume import difference
from filo.run_folder import ABOUT, FAILED, HIGHEST, MERGE, PREDICTED, require_free, start_run
from filo.run_lock import hold
from filo.shards import Shard, find_shards
from filo.summary import Summary, by_decision, falling, say_what_failed, summarise

MOST = 100  # of each class, in the list of the highest scores
OF_SHARD = ("images", "images_failed", "images_computed", "seconds", "peak_memory", "environment", "command")


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m filo.merge"
    parser.add_argument("folder", type=Path, metavar="OUT", help="what the shards were given as --out")
    parser.add_argument("--no_report", action="store_true", help="write no report.html")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    return merge(args.folder, not args.no_report, "filo.merge")


def merge(folder: Path, with_report: bool, command: str) -> int:
    """Merge the shards in a folder into it and say what came out; give the status. `command` is the module
    that was called.

    Raises:
        InputError: one is missing, not finished or of another prediction, or the folder holds a run of its
            own; nothing is touched then. Or a record is damaged, or the disk is full.
    """
    shards = require_all(folder)
    with hold(folder, MERGE):
        require_free(folder, MERGE)
        abouts = {shard: read_about(folder, shard) for shard in shards}
        require_same(folder, abouts)
        start_run(folder, MERGE, {"folder": readable(folder), "shards": len(shards)})
        write_records(folder, in_order(folder, shards))
        write_table(folder, iterate_records(folder))
        write_failed(folder, shards)
        summary = summarise(iterate_records(folder), by_decision(), MOST, abouts[shards[0]]["classes"])
        write_highest(folder, summary)
        require_complete(folder, abouts, summary)
        write_json(folder / PREDICTED, describe(abouts, summary, command))
        say(folder, summary)
        if with_report and summary.status < 2 and summary.images:
            print(f"report: {write_report(folder)}")
    return summary.status


def require_all(folder: Path) -> list[Shard]:
    """Give the shards in a folder.

    Raises:
        InputError: there are none, or not all of them, or more than one set.
    """
    found = find_shards(folder)
    if not found:
        raise InputError(f"{folder} holds no shards: name what `filo.predict --shard` was given as --out")
    sets = sorted({shard.of for shard in found})
    if len(sets) > 1:
        both = " and of ".join(map(str, sets))
        raise InputError(f"{folder} holds shards of {both}: move all but those of one number away")
    missing = [shard for number in range(1, sets[0] + 1) if (shard := Shard(number, sets[0])) not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{folder} has no shard {missing[0]}{more}: run its command, the one of {found[0]} with --shard "
            f"{missing[0]}"
        )
    return found


def read_about(folder: Path, shard: Shard) -> dict:
    """Read what a finished shard says of itself.

    Raises:
        InputError: it is not finished, or damaged.
    """
    path = folder / shard.folder / PREDICTED
    if not path.is_file() or (path.parent / ABOUT).exists():
        raise InputError(f"shard {shard} in {path.parent} is not finished: run its command again, it goes on")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["shard"]["is"] != str(shard):
            raise ValueError(f"it says that it is {about['shard']['is']}")
        if missing := [name for name in OF_SHARD if name not in about]:
            raise KeyError(*missing)
        counts = (about["images"], about["images_computed"], about["shard"]["repeated"])
        sum([*counts, about["seconds"], about["shard"]["same"]["images of all shards"]])  # all are numbers
        return about | {"classes": dict(about["classes"]), "peak_memory": dict(about["peak_memory"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}): run that shard again with --overwrite"
        ) from error


def require_same(folder: Path, abouts: Mapping[Shard, dict]) -> None:
    """Raise `InputError` if two shards are not of one prediction, and say in what they differ."""
    (first, about), *others = abouts.items()
    for shard, other in others:
        if differing := difference(about["shard"]["same"], other["shard"]["same"]):
            raise InputError(
                f"{folder} holds shards of different predictions: {first} is there, {shard} is here "
                f"({differing}); run one of them again with --overwrite, as the other was"
            )


def require_complete(folder: Path, abouts: Mapping[Shard, dict], summary: Summary) -> None:
    """Raise `InputError` if an image is in no shard, or in two."""
    told = sum(about["images"] for about in abouts.values())
    repeated = sum(about["shard"]["repeated"] for about in abouts.values())
    listed = next(iter(abouts.values()))["shard"]["same"]["images of all shards"]
    if not (summary.images == told == listed - repeated):
        raise InputError(
            f"{folder}: {listed:,} images were named, {repeated:,} more than once, but the shards say that "
            f"they have {told:,} and have {summary.images:,}: run them again with --overwrite, by one version"
        )


def in_order(folder: Path, shards: Sequence[Shard]) -> Iterator[Record]:
    """Give the records of all shards by class and path, numbered anew, each with where its pictures lie.

    Every shard has its own in that order.
    """
    own = (_records_of(folder, shard) for shard in shards)
    for index, record in enumerate(heapq.merge(*own, key=lambda record: (record.class_name, record.image))):
        yield replace(record, index=index)


def _records_of(folder: Path, shard: Shard) -> Iterator[Record]:
    for record in iterate_records(folder / shard.folder):
        small = "" if record.error else f"{shard.folder}/{small_name(record.index)}"
        heatmap = record.heatmap and f"{shard.folder}/{record.heatmap}"
        yield replace(record, small=small, heatmap=heatmap)


def write_failed(folder: Path, shards: Sequence[Shard]) -> None:
    """Put the lists of images that failed one behind the other, if there are any."""
    paths = [path for shard in shards if (path := folder / shard.folder / FAILED).is_file()]

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for path in paths:
                with path.open("rb") as source:
                    shutil.copyfileobj(source, file)

    if paths:
        write_atomically(folder / FAILED, write)


def write_highest(folder: Path, summary: Summary) -> None:
    """Write the list of the images with the highest scores of every class, which --list takes as well."""
    ranked = (record for tally in summary.classes.values() for record in falling(tally.records))
    lines = (to_line(Path(record.image), record.class_name) for record in ranked)
    write_lines(folder / HIGHEST, filter(None, lines))


def describe(abouts: Mapping[Shard, dict], summary: Summary, command: str) -> dict:
    """Say of all shards together what each says of itself."""
    first = next(iter(abouts.values()))
    shards = {str(shard): {name: about[name] for name in OF_SHARD} for shard, about in abouts.items()}
    computed = sum(about["images_computed"] for about in abouts.values())
    seconds = sum(about["seconds"] for about in abouts.values())
    counts = summary.describe_classes()
    classes = {name: (first["classes"].get(name) or {}) | own for name, own in counts.items()}
    memory = [about["peak_memory"] for about in abouts.values()]
    peak = {name: max(each.get(name, 0) for each in memory) for name in memory[0]}
    about = {name: value for name, value in first.items() if name != "shard"}
    about |= {"arguments": dict(first["arguments"]) | {"shard": None}}
    about |= summary.describe() | {"classes": classes, "shards": shards, "peak_memory": peak}
    about |= {"seconds": round(seconds, 2), "images_computed": computed}
    about |= {"seconds_per_image": round(seconds / computed, 4) if computed else None}
    return about | {"command": readable(Path(shlex.join(["python", "-m", command, *sys.argv[1:]])))}


def say(folder: Path, summary: Summary) -> None:
    """Print what came out: a line for each class, and what failed."""
    for name, tally in summary.classes.items():
        called = "" if tally.anomalous is None else f", {tally.anomalous:,} anomalous"
        best = next(iter(falling(tally.records)), None)
        highest = f"; the highest score is {best.score:.4f}, of {best.image}" if best else ""
        print(f"{name}: {tally.images:,} images{called}{highest}")
    done = summary.images - summary.failed
    print(f"{done:,} of {summary.images:,} images are done, {summary.failed:,} failed; predictions: {folder}")
    say_what_failed(summary, folder / FAILED)


if __name__ == "__main__":
    exit_clearly(main)
