"""Several processes give what one gives, and end together."""

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from filo.errors import InputError
from filo.methods.filo import FiLoModel
from filo.processes import ALONE, Processes
from filo.resume import require_same_everywhere
from filo.run_folder import TRAINING
from filo.run_lock import hold
from tests.commands import ROOT, flags
from tests.killing import kill, run_job, start, wait
from tests.trees import complaint

# who takes what


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [0, 1, 4, 7, 30])
def test_shares_cover_everything_once_and_are_even(count, length):
    shares = [Processes(rank, count).share(range(length)) for rank in range(count)]
    assert [i for share in shares for i in share] == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("count", "batch_size"), [(2, 2), (3, 1), (4, 5)])
@pytest.mark.parametrize("length", [1, 4, 12, 41])
def test_steps_are_those_of_one_process_with_the_batch_of_all(count, batch_size, length):
    order = torch.randperm(length).tolist()
    wanted = ALONE.steps(order, batch_size * count)
    found = [Processes(rank, count).steps(order, batch_size) for rank in range(count)]
    for whole, parts in zip(wanted, zip(*found, strict=True), strict=True):
        assert whole.weight == 1 and all(part.size == len(whole.mine) for part in parts)
        assert [i for part in parts if part.weight for i in part.mine] == whole.mine
        assert all(0 < len(part.mine) <= batch_size for part in parts)
        assert [part.weight * part.size for part in parts if part.weight] == [
            len(part.mine) for part in parts if part.weight
        ]


def test_alone_nothing_is_exchanged():
    tensor = torch.ones(2)
    ALONE.add_up([tensor])
    ALONE.spread([tensor])
    assert ALONE.gather(3) == [3] and ALONE.collect([1, 2]) == [1, 2] and tensor.tolist() == [1, 1]
    assert list(ALONE.in_turn(iter("abc"), 3)) == ["a", "b", "c"]


@pytest.mark.parametrize(("there", "name"), [(0, None), (4, None), (4, "cuda")])
def test_each_process_has_its_own_gpu(there, name, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    # the third of a second machine
    assert Processes(6, 8, 2).own_device(name) == ("cuda:2" if there else None)
    assert chosen == ([2] if there else []) and ALONE.own_device(name) == name
    assert Processes(1, 2, 1).own_device("cpu") == "cpu"
    if there:
        line = complaint(lambda: Processes(4, 8, 4).own_device(name))
        assert "process 5 of this machine has no GPU of its own, there are 4" in line
    assert "one device for 2 processes" in complaint(lambda: Processes(1, 2, 1).own_device("cuda:1"))


def test_processes_that_would_do_different_things_are_refused():
    class Two(Processes):
        def gather(self, value):
            return [value, {**value, "meta.json": "b" * 64}]

    about = {"--seed": 0, "meta.json": "a" * 64, "state": None}
    with pytest.raises(InputError, match=r"process 1 .* \(meta\.json b{12} there, a{12} here\)"):
        require_same_everywhere(Two(0, 2), about)
    require_same_everywhere(ALONE, about)


# training


@pytest.fixture(scope="module")
def values(wood, train_flags):
    """An epoch of each stage over six images in steps of four, so that the last step has two."""
    small = {"dataset": "demo_mvtec", "train_data_path": wood, "aug_rate": 0.3, "batch_size": 4}
    return train_flags | small | {"save_every": 1e-9}


def keep_gradients(folder):
    """Let every process write down the gradients that its optimiser gets."""
    step, count = torch.optim.AdamW.step, []

    def keep_and_step(optimizer, *args):
        gradients = [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]
        torch.save(gradients, folder / f"gradients_{os.environ.get('RANK', 0)}_{len(count)}.pt")
        count.append(1)
        return step(optimizer, *args)

    torch.optim.AdamW.step = keep_and_step


def gradients_of(folder, rank=0):
    return [torch.load(folder / f"gradients_{rank}_{step}.pt") for step in range(4)]


@pytest.fixture(scope="module")
def one(values, tmp_path_factory):
    """The folder of the training by one process, in `run`."""
    folder = tmp_path_factory.mktemp("one")
    arguments = flags(**values, save_path=folder / "run")
    pid = start("train.py", arguments, folder / "said", prepare=lambda: keep_gradients(folder))
    assert wait(pid) == 0, (folder / "said").read_text()
    return folder


def losses_of(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_nearly_same_run(folder, wanted):
    """Assert that two trainings left the same but for rounding, which AdamW makes larger."""
    assert {path.name for path in folder.iterdir()} == {path.name for path in wanted.iterdir()}
    assert losses_of(folder) == pytest.approx(losses_of(wanted), rel=1e-5)
    for path in wanted.glob("*.safetensors"):
        own, other = load_file(folder / path.name), load_file(path)
        assert own.keys() == other.keys()
        for name, tensor in own.items():
            torch.testing.assert_close(tensor, other[name], rtol=0, atol=2e-5, msg=f"{path.name} {name}")


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_as_one_with_the_batch_of_all(count, values, one, tmp_path):
    """Of four processes two have no image in the last step."""
    arguments = flags(**values | {"batch_size": 4 // count}, save_path=tmp_path / "run")
    prepare = lambda: keep_gradients(tmp_path)  # noqa: E731
    statuses, said = run_job(count, "train.py", arguments, tmp_path, prepare=prepare)
    assert statuses == [0] * count, said
    assert "stage 2 epoch 1/1" in said[0] and said[1:] == [""] * (count - 1)
    for step, (found, wanted) in enumerate(zip(gradients_of(tmp_path), gradients_of(one), strict=True)):
        for rank in range(1, count):
            same = zip(found, gradients_of(tmp_path, rank)[step], strict=True)
            assert all(torch.equal(own, other) for own, other in same)
        assert all(
            (own - other).norm() < 1e-5 * other.norm() for own, other in zip(found, wanted, strict=True)
        )
    assert_nearly_same_run(tmp_path / "run", one / "run")


def test_processes_fill_one_cache_of_features(values, tmp_path):
    small = values | {"aug_rate": 0, "cache_features": tmp_path / "kept_one", "save_path": tmp_path / "one"}
    assert wait(start("train.py", flags(**small), tmp_path / "said")) == 0
    small |= {"batch_size": 2, "cache_features": tmp_path / "kept_two", "save_path": tmp_path / "two"}
    statuses, said = run_job(2, "train.py", flags(**small), tmp_path)
    assert statuses == [0, 0] and "6 of them still to be written" in said[0], said
    assert_nearly_same_run(tmp_path / "two", tmp_path / "one")
    one, two = ({p.name: p for p in (tmp_path / n).rglob("*.*")} for n in ("kept_one", "kept_two"))
    assert two.keys() == one.keys() and len(one) == 7
    for name in one.keys() - {"features.json"}:
        own, other = load_file(two[name]), load_file(one[name])
        assert own.keys() == other.keys() and all(torch.equal(own[n], other[n]) for n in own)


# testing


def contents(folder):
    """What a test leaves but for the files that name times and places."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    kept = files.keys() - {"results.json", "args.json", "report.html"}
    return {name: files[name].read_bytes() for name in kept}


def test_processes_test_as_one_bit_for_bit(test_flags, grounding, tmp_path):
    values = test_flags | grounding | {"report": True, "workers": 1}
    one, two = ({"save_path": tmp_path / name, "cache_dir": tmp_path / f"kept_{name}"} for name in "12")
    assert wait(start("test.py", flags(**values | one), tmp_path / "said")) == 0
    statuses, said = run_job(2, "test.py", flags(**values | two), tmp_path)
    assert statuses == [0, 0] and said[1] == "" and said[0].count("| mean") == 1, said
    assert contents(tmp_path / "2") == contents(tmp_path / "1")
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in "12")
    assert two["classes"] == one["classes"] and two["images_computed"] == one["images"]
    assert two["detector"]["detected"] == one["detector"]["detected"] == one["images"]
    assert (one["environment"]["processes"], two["environment"]["processes"]) == (1, 2)


def test_a_killed_test_goes_on_with_another_number_of_processes(test_flags, tmp_path):
    """Batches are the same ones, whoever computes them. torchrun tells those who are left to end, and still
    the one line says why.
    """
    values = test_flags | {"batch_size": 2}

    def note_own_number():
        (tmp_path / os.environ["RANK"]).write_text(str(os.getpid()))

    def end_others_and_be_killed():
        for rank in "02":
            os.kill(int((tmp_path / rank).read_text()), signal.SIGTERM)
        kill()

    acts = {1: (56, end_others_and_be_killed)}  # in its last batch
    statuses, said = run_job(3, "test.py", flags(**values), tmp_path, acts, note_own_number)
    assert statuses[1] == -signal.SIGKILL and {statuses[0], statuses[2]} <= {1, 143}, said
    assert "process 1 (of 0 to 2) is gone" in gone(said) and "stopped by" not in "".join(said)
    assert wait(start("test.py", flags(**values), tmp_path / "said")) == 0
    assert re.search("going on: (48|54) of 60 images are done already", (tmp_path / "said").read_text())
    assert wait(start("test.py", flags(**values | {"save_path": tmp_path / "whole"}), tmp_path / "said")) == 0
    assert contents(values["save_path"]) == contents(tmp_path / "whole")


# one of them ends


def gone(said):
    """Assert that of a job's processes one has said one line why all ended; give it."""
    lines = [line for each in said for line in each.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in "".join(said), said
    return lines[0]


def kill_parent():
    if multiprocessing.parent_process() is None:  # those that read images see moments as well
        kill()


@pytest.mark.parametrize(("rank", "moment"), [(0, 30), (1, 9)])
def test_a_killed_process_ends_the_job_with_one_line_and_the_same_command_goes_on(
    rank, moment, values, one, tmp_path
):
    arguments = flags(**values | {"batch_size": 2, "workers": 1}, save_path=tmp_path / "run")
    acts = {rank: (moment, kill_parent)}
    statuses, said = run_job(2, "train.py", arguments, tmp_path, acts)
    assert statuses[rank] == -signal.SIGKILL and statuses[1 - rank] == 1
    assert f"process {rank} (of 0 to 1) is gone without a word" in gone(said)
    statuses, said = run_job(2, "train.py", arguments, tmp_path)
    assert statuses == [0, 0] and "going on from stage" in said[0], said
    assert_nearly_same_run(tmp_path / "run", one / "run")


def lose_the_second():
    """Let the second process's losses be nan."""
    loss = FiLoModel.local_loss
    wrong = math.nan if os.environ["RANK"] == "1" else 1
    FiLoModel.local_loss = lambda *args: loss(*args) * wrong


def test_an_error_in_one_process_of_a_training_is_said_once_and_ends_all(values, tmp_path):
    arguments = flags(**values | {"batch_size": 2}, save_path=tmp_path / "run")
    statuses, said = run_job(2, "train.py", arguments, tmp_path, prepare=lose_the_second)
    assert statuses == [1, 2] and re.search(r"the loss after stage 1.* is nan \(.*\.png\)", gone(said))


def test_an_image_that_one_process_of_a_test_cannot_read_is_said_once(test_flags, data, tmp_path):
    root = shutil.copytree(data["mvtec"], tmp_path / "data")
    sorted(root.glob("wood/test/*/*.png"))[-1].write_bytes(b"no image")  # of the last batch
    statuses, said = run_job(2, "test.py", flags(**test_flags | {"data_path": root}), tmp_path)
    assert statuses == [1, 2] and "cannot be read as an image" in gone(said)


@pytest.mark.parametrize(
    ("number", "status", "by"), [(signal.SIGINT, 130, "the keyboard"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_to_all_processes_of_a_test_is_said_once(number, status, by, test_flags, tmp_path):
    acts = dict.fromkeys(range(2), (10, lambda: os.kill(os.getpid(), number)))
    statuses, said = run_job(2, "test.py", flags(**test_flags), tmp_path, acts)
    assert status in statuses and set(statuses) <= {1, status} and "".join(said) == f"stopped by {by}\n"


def test_a_stopped_job_goes_on_with_another_number_of_processes(values, one, tmp_path):
    values = values | {"save_every": 60}
    arguments = flags(**values | {"batch_size": 2}, save_path=tmp_path / "run")
    acts = {1: (40, lambda: os.kill(os.getpid(), signal.SIGTERM))}
    statuses, said = run_job(2, "train.py", arguments, tmp_path, acts)
    assert statuses == [143, 143] and "".join(said).count("stopped by SIGTERM at stage") == 1
    pid = start("train.py", flags(**values, save_path=tmp_path / "run"), tmp_path / "said")
    assert wait(pid) == 0
    assert (
        "began elsewhere (processes 2 there, 1 here), so last digits may differ"
        in (tmp_path / "said").read_text()
    )
    assert_nearly_same_run(tmp_path / "run", one / "run")


def test_a_folder_in_use_and_wrong_flags_are_said_once(values, tmp_path):
    arguments = flags(**values, save_path=tmp_path / "run")
    with hold(tmp_path / "run", TRAINING):
        statuses, said = run_job(2, "train.py", arguments, tmp_path)
    assert statuses == [2, 1] and "another process is at work" in gone(said)
    statuses, said = run_job(2, "train.py", ["--epochs", 3], tmp_path)
    assert 2 in statuses and said[0].endswith("unrecognized arguments: --epochs 3\n") and said[1] == ""


def test_torchrun_passes_a_signal_on_and_the_state_is_saved(values, tmp_path):
    arguments = flags(
        **values | {"batch_size": 2, "epoch": 1000, "save_every": 60}, save_path=tmp_path / "run"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    quick = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*launch, "train.py", *arguments], cwd=ROOT, env=quick, **pipes) as torchrun:
        try:
            said = next(line for line in torchrun.stdout if line.startswith("stage 1 epoch 2/1000"))
            torchrun.send_signal(signal.SIGTERM)
            _, err = torchrun.communicate()
        finally:
            torchrun.kill()
    assert torchrun.returncode == 1, said
    assert err.count("stopped by SIGTERM at stage 1") == 1 and "the same command goes on from there" in err
    assert (tmp_path / "run" / "state.safetensors").exists() and not (
        tmp_path / "run" / "filo.safetensors"
    ).exists()
