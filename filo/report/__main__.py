"""Write the report of finished runs anew, from their files alone: RUN/report.html.

python -m filo.report checkpoints/filo_visa/test_on_mvtec
python -m filo.report predictions --scale 0 1
python -m filo.report filo_visa/test_on_mvtec --beside AnomalyCLIP=anomalyclip_visa/test_on_mvtec
"""

import argparse
from pathlib import Path

from filo import options
from filo.errors import exit_clearly
from filo.plots import given_scale
from filo.report.page import write_report


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m filo.report"
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a folder that test.py or filo.predict wrote"
    )
    parser.add_argument(
        "--beside",
        nargs="+",
        default=[],
        metavar="[NAME=]OTHER",
        help="tests of the same images whose metrics, scores and maps are shown too, and what to call them",
    )
    options.add_scale_option(parser.add_argument, "as the run says, or from its own maps")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    scale, beside = given_scale(args.scale), [options.split_name(other) for other in args.beside]
    for run in args.runs:
        print(f"report: {write_report(run, scale, beside)}")


if __name__ == "__main__":
    exit_clearly(main)
