"""What the machine can do at most, and how close the image tower comes to it."""

import time

import torch

from filo.bench.setting import SIZES
from filo.clip.build import read_config


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int = 4096, rounds: int = 5) -> float:
    """Measure matrix products, in operations per second: the best of some rounds."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(rounds + 1):
        started = time.perf_counter()
        product = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    del product
    return 2 * side**3 / best


def tower_operations(size: str) -> float:
    """Count the multiplications and additions of the image tower with both streams, for one image."""
    name, side, taps = SIZES[size]
    vision = read_config(name)["vision_cfg"]
    C, P, layers = vision["width"], vision["patch_size"], vision["layers"]
    N = (side // P) ** 2 + 1
    attention = 4 * N * N * C  # two products of N x C with C x N
    ordinary = 2 * N * C * C * (4 + 2 * vision.get("mlp_ratio", 4.0)) + attention
    both = ordinary + attention + 2 * N * C * C  # the V-V stream attends and projects, and has no MLP
    return taps[0] * ordinary + (layers - taps[0]) * both
