"""How tests run train.py, test.py and the other commands: within this process, which saves their imports."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(monkeypatch, capfd, script, *arguments):
    """Run a script as a command within this process, which saves its imports: (status, stdout, stderr)."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    out, err = capfd.readouterr()
    return caught.value.code, out, err


def flags(**values):
    """Give command-line flags; a list becomes several values, True a flag without one."""
    pairs = [[f"--{k}", *(v if isinstance(v, list) else [] if v is True else [v])] for k, v in values.items()]
    return [str(each) for pair in pairs for each in pair]
