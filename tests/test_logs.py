"""What a run writes about itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from filo.errors import InputError
from filo.logs import describe_environment, peak_memory, pick_device, plain


def test_the_environment_names_versions_and_hardware():
    found = describe_environment(torch.device("cpu"))
    assert found["device"] == "cpu" and found["hardware"].endswith("cores")
    assert torch.__version__.startswith(found["packages"]["torch"])
    json.dumps(found)


def test_peak_memory_grows_by_what_is_touched():
    code = (
        "import torch, filo.logs as logs; cpu = torch.device('cpu'); a = logs.peak_memory(cpu)['rss_gb'];"
        "torch.ones(100_000_000); print(logs.peak_memory(cpu)['rss_gb'] - a)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert 0.3 < float(done.stdout) < 0.5
    assert "cuda_gb" not in peak_memory(torch.device("cpu"))


def test_arguments_become_plain():
    assert plain({"a": Path("b"), "c": [Path("d"), 1], "e": None}) == {"a": "b", "c": ["d", 1], "e": None}


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu").type == "cpu"
    for name in ("cuda:77", "toaster"):
        with pytest.raises(InputError, match=name):
            pick_device(name)
