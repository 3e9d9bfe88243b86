"""How several runs of test.py compare: the means of their results.json in one table.

python -m filo.compare checkpoints/*/test_on_visa
python -m filo.compare "all parts=ablation/all/test" "no boxes=ablation/all/test_without_boxes"
"""

import argparse
import json
from pathlib import Path

from tabulate import tabulate

from filo import options
from filo.errors import InputError, exit_clearly
from filo.files import write_text
from filo.kinds import DAMAGES
from filo.metrics import COLUMNS, percent

RESULTS = "results.json"


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]FOLDER", help="a folder that test.py wrote, and what to call it"
    )
    parser.add_argument("--out", type=Path, help="write the table there as well")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    table = compare([options.split_name(run) for run in args.runs])
    print(table)
    if args.out:
        write_text(args.out, table + "\n")


def compare(runs: list[tuple[str, Path]]) -> str:
    """Give a table with a row for each (name, folder): the means over the classes, in percent, of several
    seeds with standard deviations.

    Raises:
        InputError: a folder holds no results.
    """
    rows = []
    for name, folder in runs:
        said = read_results(folder)
        mean, spread = said["mean"], read_spread(said)
        rows.append([name, *(percent(mean[column], spread.get(column)) for column in COLUMNS)])
    align = ("left", *["right"] * len(COLUMNS))
    return tabulate(rows, ("run", *COLUMNS), tablefmt="pipe", disable_numparse=True, colalign=align)


def read_results(folder: Path) -> dict:
    """Read FOLDER/results.json, whose `mean` has every metric: a share, or None where undefined.

    Raises:
        InputError: it is not there, or not what test.py writes.
    """
    path = folder / RESULTS
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        for column in COLUMNS:
            value = said["mean"][column]
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{column} is {value}, no share")
        if not all(isinstance(value, float | None) for value in read_spread(said).values()):
            raise TypeError("a standard deviation is no number")
    except DAMAGES as error:
        raise InputError(
            f"{path} holds no results of test.py ({type(error).__name__}); name a folder that test.py wrote"
        ) from error
    return said


def read_spread(said: dict) -> dict[str, float | None]:
    """Give the standard deviations of the means over several seeds; none of a single test."""
    return said["std"]["mean"] if "std" in said else {}


if __name__ == "__main__":
    exit_clearly(main)
