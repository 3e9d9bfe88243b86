"""What several tests that differ in their seed come to: means and standard deviations of every metric."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from tabulate import tabulate

from filo.errors import InputError
from filo.files import write_json, write_text
from filo.metrics import COLUMNS, percent
from filo.prompts import spoken
from filo.run_folder import TEST, clear, require_free, seed_folder

RESULTS = "results.json"
Row = Mapping[str, float | None]


def summarise(folder: Path, seeds: Sequence[int]) -> str:
    """Write the results and the table of all seeds into `folder`, beside the folders of each; give the table.

    Raises:
        InputError: one is missing or damaged, or the folder cannot be written to.
    """
    runs = [_read(seed_folder(folder, seed) / RESULTS) for seed in seeds]
    require_free(folder, TEST)
    clear(folder, TEST)
    first = runs[0]
    rows = {name: [run["classes"][name] for run in runs] for name in first["classes"]}
    means = {name: first["classes"][name] | _reduce(each, mean) for name, each in rows.items()}
    deviations = {name: _reduce(each, _deviation) for name, each in rows.items()}
    total = [run["mean"] for run in runs]
    about = {name: value for name, value in first.items() if name not in ("references", "seed", "command")}
    about |= {"classes": means, "mean": _reduce(total, mean)}
    about |= {"std": {"classes": deviations, "mean": _reduce(total, _deviation)}, "seeds": list(seeds)}
    about["references"] = {str(seed): run["references"] for seed, run in zip(seeds, runs, strict=True)}
    about["seconds"] = round(sum(run["seconds"] for run in runs), 2)
    table = _table(means, deviations, about)
    write_text(folder / "table.md", table + "\n")
    write_json(folder / RESULTS, about)
    return table


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if content["classes"] and content["mean"] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no results ({type(error).__name__}); run test.py again") from error


def _reduce(rows: Sequence[Row], how) -> dict[str, float | None]:
    """Reduce each metric over the seeds; None where one of them has none."""
    columns = {column: [row[column] for row in rows] for column in COLUMNS}
    return {column: None if None in values else how(values) for column, values in columns.items()}


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _table(means: Mapping[str, Row], deviations: Mapping[str, Row], about: dict) -> str:
    rows = [(spoken(name), row, deviations[name]) for name, row in means.items()]
    rows.append(("mean", about["mean"], about["std"]["mean"]))
    shown = [column for column in COLUMNS if any(row[column] is not None for _, row, _ in rows)]
    cells = [
        [name, *(percent(row[column], spread[column]) for column in shown)] for name, row, spread in rows
    ]
    align = ("left", *["right"] * len(shown))
    return tabulate(cells, ("objects", *shown), tablefmt="pipe", disable_numparse=True, colalign=align)
