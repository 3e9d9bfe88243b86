"""What training says about itself epoch by epoch: `log.jsonl`, curves, TensorBoard where it is wanted."""

import json
from pathlib import Path

import torch

from filo import logs
from filo.errors import InputError
from filo.files import append_line, write_atomically


class TrainingLog:
    """Writes into a run's folder: `log.jsonl` after every epoch, `loss.png` after every stage.

    Raises:
        InputError: `tensorboard` is wanted and not installed.
    """

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.folder = folder
        self.writer_type = _find_tensorboard() if tensorboard else None
        self.writer = None  # opened by the first epoch, when an older run's files are gone

    def add(self, stage: int, epoch: int, loss: float, seconds: float, device: torch.device) -> dict:
        """Take down an epoch; give what a checkpoint says of it."""
        line = {"stage": stage, "epoch": epoch, "loss": loss, "seconds": round(seconds, 2)}
        append_line(self.folder / "log.jsonl", line | logs.peak_memory(device))
        if self.writer_type is not None:
            self.writer = self.writer or self.writer_type(str(self.folder / "tensorboard"))
            self.writer.add_scalar(f"stage {stage}/loss", loss, epoch)
            self.writer.flush()
        return line

    def draw(self) -> None:
        """Draw the losses so far.

        Raises:
            InputError: the disk is full.
        """
        draw_training(self.folder / "log.jsonl", self.folder / "loss.png")


def _find_tensorboard() -> type:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard needs a package that is not installed: pip install tensorboard; log.jsonl and "
            "loss.png are written without it"
        ) from error
    return SummaryWriter


def draw_training(log: Path, out: Path) -> None:
    """Draw the losses in a run's `log.jsonl` as a PNG, one panel for each stage.

    Raises:
        InputError: the log cannot be read, or the picture not be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second, and only this needs it
    from matplotlib.figure import Figure

    stages = _read_losses(log)
    figure = Figure(figsize=(4.6 * len(stages), 3.4), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for panel, (stage, points) in zip(panels, stages.items(), strict=True):
        epochs, losses = zip(*points, strict=True)
        panel.plot(epochs, losses, color="#b4420f", marker="o", markersize=3.5, linewidth=1.5)
        panel.set_title(f"stage {stage}: {losses[-1]:#.4g} after epoch {epochs[-1]}", loc="left", fontsize=11)
        panel.set(xlabel="epoch", ylabel="loss", ylim=(0, max(losses) * 1.06 or 1))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e6e2da", linewidth=0.8)
    write_atomically(out, lambda path: FigureCanvasAgg(figure).print_png(str(path)))


def _read_losses(log: Path) -> dict[int, list[tuple[int, float]]]:
    stages: dict[int, list[tuple[int, float]]] = {}
    try:
        for line in log.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            stages.setdefault(int(row["stage"]), []).append((int(row["epoch"]), float(row["loss"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{log} is no log of train.py ({type(error).__name__}: {error})") from error
    if not stages:
        raise InputError(f"{log} is empty: there is nothing to draw")
    return stages
