"""The demo reaches what it reached: three seeds, either way round, each run as a newcomer runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from tests.commands import ROOT

STORED = Path(__file__).with_name("demo_means.json")
SEEDS = (0, 1, 2)
WAYS = {"visa_to_mvtec": ("visa", "mvtec"), "mvtec_to_visa": ("mvtec", "visa")}
TOLERANCE = 0.02  # of a mean over seeds; another CPU or version of torch moves one by less
COLUMNS = ("auroc_px", "aupro", "auroc_sp")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict[str, dict[str, float]]]:
    """The means over the seeds: of each way, of each row of the demo's table."""
    return {way: _run(tmp_path_factory.mktemp(way), *names) for way, names in WAYS.items()}


def _run(folder: Path, train: str, test: str) -> dict[str, dict[str, float]]:
    rows: dict[str, list[dict]] = {"alone": [], "fg_des": [], "full": []}
    for seed in SEEDS:
        made, data = folder / f"run{seed}", folder / f"data{seed}"
        told = {
            "SEED": seed,
            "TRAIN": train,
            "TEST": test,
            "RUN": made,
            "DATA": data,
            "PYTHON": sys.executable,
        }
        environment = os.environ | {name: str(value) for name, value in told.items()}
        done = subprocess.run(["bash", "demo.sh"], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for row, results in rows.items():
            inside = "" if row == "alone" else f"test_on_demo_{test}"
            results.append(json.loads((made / row / inside / "results.json").read_text())["mean"])
    return {row: {c: mean(each[c] for each in results) for c in COLUMNS} for row, results in rows.items()}


@pytest.mark.parametrize("row", ("alone", "fg_des", "full"))
@pytest.mark.parametrize("way", WAYS)
def test_every_row_is_what_it_was(found, way, row):
    stored = json.loads(STORED.read_text())[way][row]
    assert found[way][row] == pytest.approx(stored, abs=TOLERANCE)


@pytest.mark.parametrize("way", WAYS)
def test_the_full_method_finds_more_anomalous_images_than_its_parts(found, way):
    rows = {row: means["auroc_sp"] for row, means in found[way].items()}
    assert rows["full"] > max(rows["alone"], rows["fg_des"])


@pytest.mark.parametrize("column, least", (("auroc_px", 0.95), ("aupro", 0.80), ("auroc_sp", 0.90)))
def test_over_both_ways_the_full_method_is_good_and_better_than_its_parts(found, column, least):
    rows = {row: mean(found[way][row][column] for way in WAYS) for row in ("alone", "fg_des", "full")}
    assert rows["full"] > max(rows["alone"], rows["fg_des"], least)
