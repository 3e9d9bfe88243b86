"""What training says about itself epoch by epoch: `log.jsonl`, curves, TensorBoard where it is wanted."""

import json
from collections.abc import Sequence
from pathlib import Path

from filo.errors import InputError
from filo.files import write_atomically, write_text


class TrainingLog:
    """Writes into a run's folder: `log.jsonl` after every epoch, `loss.png` after every stage.

    A training that goes on writes the lines that are known; what came after them comes again.

    Raises:
        InputError: `tensorboard` is wanted and not installed.
    """

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.folder = folder
        self.writer_type = _find_tensorboard() if tensorboard else None
        self.writer = None  # opened by the first epoch, when an older run's files are gone

    def write(self, lines: Sequence[dict], is_last: bool = False) -> None:
        """Write the lines of all finished epochs, of which the last one is new; draw the losses if it is the
        last of its stage.

        Raises:
            InputError: the disk is full.
        """
        write_text(self.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        if self.writer_type is not None:
            self.writer = self.writer or self.writer_type(str(self.folder / "tensorboard"))
            self.writer.add_scalar(f"stage {lines[-1]['stage']}/loss", lines[-1]["loss"], lines[-1]["epoch"])
            self.writer.flush()
        if is_last:
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
