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
from filo.metrics import COLUMNS


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]FOLDER", help="a folder that test.py wrote, and what to call it"
    )
    parser.add_argument("--out", type=Path, help="write the table there as well")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    table = compare([split_name(run) for run in args.runs])
    print(table)
    if args.out:
        write_text(args.out, table + "\n")


def split_name(run: str) -> tuple[str, Path]:
    """Split `[NAME=]FOLDER` at the first equals sign; without one the folder is the name."""
    name, equals, folder = run.partition("=")
    return (name, Path(folder)) if equals else (run, Path(run))


def compare(runs: list[tuple[str, Path]]) -> str:
    """Give a table with a row for each (name, folder): the means over the classes, in percent.

    Raises:
        InputError: a folder holds no results.
    """
    rows = [[name, *_means(folder)] for name, folder in runs]
    align = ("left", *["right"] * len(COLUMNS))
    return tabulate(rows, ("run", *COLUMNS), tablefmt="pipe", disable_numparse=True, colalign=align)


def _means(folder: Path) -> list[str]:
    path = folder / "results.json"
    try:
        mean = json.loads(path.read_text(encoding="utf-8"))["mean"]
        return ["n/a" if mean[column] is None else f"{100 * mean[column]:.1f}" for column in COLUMNS]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} holds no results of test.py ({type(error).__name__}); name a folder that test.py wrote"
        ) from error


if __name__ == "__main__":
    exit_clearly(main)
