"""What a run writes down about itself: where it ran, what it used, one log line per epoch."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from filo.errors import InputError

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "numpy",
    "scipy",
    "opencv-python",
    "groundingdino-py",
    "transformers",
    "pillow",
    "safetensors",
)
STATE_SIZE = 3  # of a checkpoint's: AdamW keeps two numbers beside each weight
ROOT = Path(__file__).resolve().parents[1]


def describe_environment(device: torch.device) -> dict:
    """Give versions, commit and hardware, as they go into checkpoints and results."""
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "hardware": _hardware(device),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit this code is at, with `+changes` if files differ from it; None outside a git checkout."""
    try:
        git = ["git", "-C", str(ROOT)]
        top = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True)
        if top.returncode != 0 or Path(top.stdout.split("\n")[0]) != ROOT:
            return None
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
        ).stdout
        return top.stdout.split()[-1] + ("+changes" if changes.strip() else "")
    except OSError:
        return None


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def peak_memory(device: torch.device) -> dict[str, float]:
    """Give the largest memory used so far in GB (1e9 bytes), of this process and of its GPU if it has one."""
    peak = {"rss_gb": round(_peak_rss() / 1e9, 3)}
    if device.type == "cuda":
        peak["cuda_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    return peak


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_rss() -> int:
    """In bytes. On Linux `getrusage` starts at the size of the parent process, so its own record is read."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if lines:
            return int(lines[0][1]) * 1024
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def announce(
    folder: Path,
    images: int,
    epochs: Sequence[int],
    keep: str,
    state: Mapping[str, torch.Tensor],
    is_saved: bool,
) -> None:
    """Say what training is about to do and what it will take on disk; `keep` is `all` or `last`. If it
    `is_saved`, the state to go on from is there too, twice for a moment.
    """
    size = sum(t.numel() * t.element_size() for t in state.values()) / 1e9
    files = sum(min(count, 1) if keep == "last" else count for count in epochs)
    kept = STATE_SIZE * size if is_saved else 0.0
    said = f" and a state of up to {kept:.2f} GB" if is_saved else ""
    free = shutil.disk_usage(folder).free / 1e9
    print(
        f"{images} images, {' + '.join(map(str, epochs))} epochs, {files} checkpoints of {size:.2f} GB{said} "
        f"into {folder} ({free:.1f} GB free)"
    )
    if size * (files + 1) + 2 * kept > free:
        print(
            "warning: the disk may become full; --keep last keeps one checkpoint for each stage, "
            "--save_every 0 no state"
        )


def pick_device(name: str | None) -> torch.device:
    """Give the device of that name; without one CUDA's first, or the CPU.

    Raises:
        InputError: it is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("wanted cpu, cuda or mps")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device {name!r} cannot be used ({reason}); leave --device out for a CUDA GPU or else the CPU"
        ) from error
    return device


def plain(arguments: dict) -> dict:
    """Make arguments fit for JSON: paths become texts."""
    return {key: _plain(value) for key, value in arguments.items()}


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
