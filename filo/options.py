"""The flags that several commands share, and what their values may be."""

import argparse
from collections.abc import Callable
from pathlib import Path

from filo.prompts import PromptBook, find_prompt_file


def add_prompt_option(add: Callable) -> None:
    add(
        "--prompts",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="prompt files, a later one overriding an earlier one (default: prompts/<dataset>.json)",
    )


def add_run_options(add: Callable) -> None:
    add("--device", help="cuda, cuda:1, cpu, ... (default: the best there is)")
    add("--workers", type=whole, help="processes that read images (default: 8 beside a GPU, otherwise none)")


def read_prompts(args: argparse.Namespace) -> PromptBook:
    """Open the prompt files that the arguments name, or the dataset's own."""
    return PromptBook(args.prompts or [find_prompt_file(args.dataset)])


def count_workers(args: argparse.Namespace, device_type: str) -> int:
    if args.workers is not None:
        return args.workers
    return 8 if device_type == "cuda" else 0


def positive(text: str) -> int:
    """Parse a whole number above zero."""
    return _bounded(text, int, 1)


def whole(text: str) -> int:
    """Parse a whole number, zero included."""
    return _bounded(text, int, 0)


def rate(text: str) -> float:
    """Parse a finite number, zero or above."""
    return _bounded(text, float, 0)


def _bounded(text: str, kind: type, lowest: int):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not lowest <= value < float("inf"):
        wanted = "whole number" if kind is int else "finite number"
        raise argparse.ArgumentTypeError(f"{text!r} is not a {wanted} of at least {lowest}")
    return value
