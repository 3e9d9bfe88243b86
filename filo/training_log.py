"""What training says about itself epoch by epoch: `log.jsonl`, curves, TensorBoard where it is wanted."""

from pathlib import Path

import torch

from filo import logs, plots
from filo.errors import InputError
from filo.files import append_line


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
        plots.draw_training(self.folder / "log.jsonl", self.folder / "loss.png")


def _find_tensorboard() -> type:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard needs a package that is not installed: pip install tensorboard; log.jsonl and "
            "loss.png are written without it"
        ) from error
    return SummaryWriter
