"""What training says about itself: log, curves of the losses, and the same for TensorBoard."""

import json

import numpy as np
import pytest
from PIL import Image

from filo.errors import InputError
from filo.training_log import TrainingLog, draw_training


def log(path, *losses):
    lines = [{"stage": s, "epoch": e, "loss": loss, "seconds": 1} for s, e, loss in losses]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_training_is_drawn_a_panel_for_each_stage(tmp_path):
    one = log(tmp_path / "one.jsonl", (1, 1, 8.4))
    two = log(tmp_path / "two.jsonl", (1, 1, 8.4), (1, 2, 3.1), (2, 1, 0.4))
    for source in (one, two):
        draw_training(source, source.with_suffix(".png"))
    sizes = [Image.open(source.with_suffix(".png")).size for source in (one, two)]
    assert sizes[1][0] == 2 * sizes[0][0]
    drawn = np.asarray(Image.open(tmp_path / "two.png").convert("RGB"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("{", "is no log of train.py"), ('{"stage": 1}', "is no log"), ("[1]", "is no log")],
)
def test_a_log_that_is_none_is_one_clear_line(content, message, tmp_path):
    (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        draw_training(tmp_path / "log.jsonl", tmp_path / "loss.png")
    with pytest.raises(InputError, match="is no log"):
        draw_training(tmp_path / "none.jsonl", tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()


def test_tensorboard_gets_every_epoch_and_its_folder_is_made_by_the_first(tmp_path, monkeypatch):
    said = []

    class Writer:
        def __init__(self, folder):
            said.append(folder)

        def add_scalar(self, *given):
            said.append(given)

        def flush(self):
            said.append("flush")

    monkeypatch.setattr("filo.training_log._find_tensorboard", lambda: Writer)
    log = TrainingLog(tmp_path, tensorboard=True)
    assert said == []  # an older run's files may still be there
    epochs = ((1, 1, 8.4), (1, 2, 3.1), (2, 1, 0.4))
    lines = [{"stage": stage, "epoch": epoch, "loss": loss} for stage, epoch, loss in epochs]
    for count in (1, 2, 3):
        log.write(lines[:count])
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == lines
    losses = [("stage 1/loss", 8.4, 1), ("stage 1/loss", 3.1, 2), ("stage 2/loss", 0.4, 1)]
    assert said == [str(tmp_path / "tensorboard"), *(each for loss in losses for each in (loss, "flush"))]
