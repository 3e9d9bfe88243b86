"""Draw the demo sets: `python -m filo.synthetic --out data/demo`."""

import argparse
from pathlib import Path

from filo.errors import exit_clearly
from filo.synthetic.folders import STAMP, make_demo


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m filo.synthetic",
        description="Draw two small made-up data sets in the layouts of the real ones, DIR/mvtec, DIR/visa.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="new or empty folder; a finished set of the same arguments is kept as it is",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--seed", type=int, default=0, help="another number draws other pictures")
    what.add_argument("--side", type=int, default=160, help="height and width of each picture in pixels")
    what.add_argument("--train", type=int, default=6, help="normal training pictures of each class")
    what.add_argument("--normal", type=int, default=10, help="normal test pictures of each class")
    what.add_argument("--anomalous", type=int, default=12, help="anomalous test pictures of each class")
    what.add_argument("--overwrite", action="store_true", help="draw anew where another demo set lies")
    return parser.parse_args()


def main() -> None:
    """Draw the sets and say where they are."""
    args = parse_arguments()
    stamp = args.out / STAMP
    before = stamp.stat().st_mtime_ns if stamp.exists() else None
    numbers = (args.seed, args.side, args.normal, args.anomalous, args.train)
    roots = make_demo(args.out, *numbers, overwrite=args.overwrite)
    was_there = stamp.stat().st_mtime_ns == before
    for dataset, root in roots.items():
        print(f"{root}: {'kept as it is' if was_there else 'drawn'}, in the layout of {dataset}")


if __name__ == "__main__":
    exit_clearly(main)
