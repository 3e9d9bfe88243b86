"""Measure how much faster this program is than the plain way to the same numbers, on this machine.

python -m filo.bench --size full --json bench.json

Both ways of a case run in turns, each in a process of its own; the ratio is the median over the rounds.
Weights are drawn, so nothing is downloaded. `--size full` is ViT-L-14-336 at 518 pixels, for FADE and WinCLIP
ViT-B-16-plus-240 at the published sizes: it takes hours on a small CPU, and the plain way to train up to
18 GB.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from filo import options
from filo.bench.cases import CASES
from filo.bench.machine import matrix_rate, tower_operations
from filo.bench.worker import Answer, Worker
from filo.errors import exit_clearly
from filo.files import write_json
from filo.logs import describe_environment, pick_device
from filo.precision import is_native


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m filo.bench"
    parser.add_argument(
        "--size", choices=("tiny", "full"), default="tiny", help="of the model and the images"
    )
    parser.add_argument("--only", nargs="+", choices=tuple(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--rounds", type=options.positive, default=3, help="how often each way runs")
    parser.add_argument("--device", help="cuda, cuda:1, cpu (default: CUDA's first, or the CPU)")
    parser.add_argument("--json", type=Path, help="write the results there as well")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = pick_device(args.device)
    machine = measure_machine(device)
    print(describe(machine))
    rows = []
    for name in args.only or CASES:
        rows.append(measure(name, args.size, device, args.rounds))
        if name.startswith("tower") and "error" not in rows[-1]:
            rows[-1] |= compare_with_limit(name, args.size, rows[-1]["seconds"], machine)
        print(say(rows[-1]), flush=True)
    print("\n" + table(rows))
    if args.json:
        write_json(args.json, [row | {"size": args.size, "machine": machine} for row in rows])


def measure_machine(device: torch.device) -> dict:
    """Measure the machine's own limit: matrix products in GFLOP/s, in fp32 and, where it is native, bf16."""
    rates = {"fp32": matrix_rate(device, torch.float32)}
    if is_native("bf16", device):
        rates["bf16"] = matrix_rate(device, torch.bfloat16)
    rates = {name: round(rate / 1e9, 1) for name, rate in rates.items()}
    return describe_environment(device) | {"matrix_gflops": rates}


def describe(machine: dict) -> str:
    rates = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in machine["matrix_gflops"].items())
    return (
        f"{machine['hardware']}, {machine['threads']} threads, torch {machine['packages']['torch']}; "
        f"matrix products: {rates}"
    )


def measure(name: str, size: str, device: torch.device, rounds: int) -> dict:
    """Run both ways of a case in turns: medians, ratio, peak memory, largest difference."""
    ours, plainly = workers = [
        Worker(name, way, size, str(device), torch.get_num_threads()) for way in (0, 1)
    ]
    try:
        with tqdm(total=2 * rounds, desc=name, disable=None) as bar:
            answers: list[list[Answer]] = [[], []]
            for worker in workers:
                worker.wait_until_ready()
            for _ in range(rounds):
                for worker, given in zip((ours, plainly), answers, strict=True):
                    given.append(worker.run())
                    bar.update()
    except RuntimeError as error:
        return {"name": name, "error": str(error)}
    finally:
        for worker in workers:
            worker.close()
    return {"name": name} | summarise(*answers)


def summarise(ours: list[Answer], plainly: list[Answer]) -> dict:
    ratios = [b.seconds / a.seconds for a, b in zip(ours, plainly, strict=True)]
    pairs = zip(ours[0].arrays, plainly[0].arrays, strict=True)
    result = {
        "ratio": statistics.median(ratios),
        "seconds": statistics.median(answer.seconds for answer in ours),
        "reference_seconds": statistics.median(answer.seconds for answer in plainly),
        "max_difference": max(float(np.abs(a - b).max()) for a, b in pairs),
    }
    for prefix, answers in (("peak_", ours), ("reference_peak_", plainly)):
        result |= {prefix + unit: answers[-1].memory[unit] for unit in answers[-1].memory}
    return result


def say(row: dict) -> str:
    if "error" in row:
        return f"{row['name']}: not measured, {row['error']}"
    limit = f", {row['share_of_limit']:.0%} of the machine's matrix rate" if "share_of_limit" in row else ""
    return (
        f"{row['name']}: {row['ratio']:.1f}x, {row['seconds']:.3f} s against "
        f"{row['reference_seconds']:.3f} s, {row['peak_rss_gb']:.1f} GB against "
        f"{row['reference_peak_rss_gb']:.1f} GB, largest difference {row['max_difference']:.1e}{limit}"
    )


def compare_with_limit(name: str, size: str, seconds: float, machine: dict) -> dict:
    """How long the image tower would take at the machine's matrix rate, and how near it comes to that."""
    precision = "bf16" if name.endswith("bf16") else "fp32"
    rate = machine["matrix_gflops"].get(precision, machine["matrix_gflops"]["fp32"])
    least = tower_operations(size) / 1e9 / rate
    return {"limit_seconds": least, "share_of_limit": least / seconds}


COLUMNS = {
    "ratio": ("ratio", ".1f"),
    "s": ("seconds", ".3f"),
    "plain s": ("reference_seconds", ".3f"),
    "GB": ("peak_rss_gb", ".2f"),
    "plain GB": ("reference_peak_rss_gb", ".2f"),
    "difference": ("max_difference", ".1e"),
}


def table(rows: list[dict]) -> str:
    cells = [
        [row["name"], *(format(row[name], form) if name in row else "n/a" for name, form in COLUMNS.values())]
        for row in rows
    ]
    align = ("left", *["right"] * len(COLUMNS))
    return tabulate(cells, ("case", *COLUMNS), tablefmt="pipe", disable_numparse=True, colalign=align)


if __name__ == "__main__":
    exit_clearly(main)
