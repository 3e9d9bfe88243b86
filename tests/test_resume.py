"""A training that is killed, stopped or short of disk goes on and ends as one that never was."""

import json
import multiprocessing
import os
import re
import shutil
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from filo import files, interrupts, run_lock, state
from filo.progress import Progress
from filo.run_folder import TRAINING
from filo.run_lock import hold
from tests.commands import flags, run
from tests.killing import run_killed, start, wait
from tests.trees import complaint, put


@pytest.fixture(scope="module")
def values(wood, train_flags):
    """Two epochs of each stage over six images, of which the state is saved after every step."""
    small = {"dataset": "demo_mvtec", "train_data_path": wood, "aug_rate": 0.3, "batch_size": 2}
    return train_flags | small | {"epoch": 2, "adapter_epoch": 2, "save_every": 1e-9}


@pytest.fixture(scope="module")
def whole(values, tmp_path_factory):
    """The folder of a training that nobody stopped, and how many moments it has."""
    folder = tmp_path_factory.mktemp("whole")
    status = wait(start("train.py", flags(**values, save_path=folder / "run"), folder / "said"))
    assert status == 0, (folder / "said").read_text()
    return folder / "run", int((folder / "said.moments").read_text())


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["stage"], line["epoch"], line["loss"]) for line in lines]


def assert_same_run(folder, wanted):
    """Assert that two trainings left the same files, weights and losses."""
    assert {path.name for path in folder.iterdir()} == {path.name for path in wanted.iterdir()}
    assert log_of(folder) == log_of(wanted)
    for path in wanted.glob("*.safetensors"):
        own, other = load_file(folder / path.name), load_file(path)
        assert own.keys() == other.keys() and all(torch.equal(own[n], other[n]) for n in own), path.name


KILLED = [pytest.param(4, {}, 0), pytest.param(20, {}, 1, marks=pytest.mark.slow)]
KILLED += [pytest.param(20, {"cache_features": "kept", "keep": "last"}, 2, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("kills", "changes", "seed"), KILLED)
def test_a_training_killed_at_random_moments_ends_as_it_would(kills, changes, seed, values, whole, tmp_path):
    wanted, moments = whole
    if changes:  # other files are left, and features in a cache differ from live ones by rounding
        changes = changes | {"cache_features": tmp_path / "one"}
        wanted = tmp_path / "wanted"
        assert wait(start("train.py", flags(**values | changes, save_path=wanted), tmp_path / "said")) == 0
        changes["cache_features"] = tmp_path / "other"
    arguments = flags(**values | changes, save_path=tmp_path / "run")
    killed = run_killed("train.py", arguments, tmp_path, kills, 2 * moments // kills, seed)
    assert killed >= kills // 2
    assert_same_run(tmp_path / "run", wanted)


@pytest.mark.parametrize(
    ("number", "status", "save_every"), [(signal.SIGINT, 130, 60), (signal.SIGTERM, 143, 60), (2, 130, 1e-9)]
)
def test_ctrl_c_and_sigterm_save_the_state_and_the_same_command_goes_on(
    number, status, save_every, values, whole, tmp_path
):
    arguments = flags(**values | {"save_every": save_every}, save_path=tmp_path / "run")

    def signal_itself():
        os.kill(os.getpid(), number)

    assert wait(start("train.py", arguments, tmp_path / "said", whole[1] // 2, signal_itself)) == status
    said = (tmp_path / "said").read_text()
    assert re.search(r"stopped by (the keyboard|SIGTERM) at stage \d, epoch \d, image \d", said)
    assert "the same command goes on from there" in said and "Traceback" not in said
    assert (tmp_path / "run" / "state.safetensors").exists()
    assert not list((tmp_path / "run").glob(".*"))
    assert wait(start("train.py", [*arguments, "--resume"], tmp_path / "said")) == 0
    assert "going on from stage" in (tmp_path / "said").read_text()
    assert_same_run(tmp_path / "run", whole[0])


def test_slurm_tells_all_processes_of_a_job_to_end(values, whole, tmp_path):
    arguments = flags(**values | {"workers": 2, "save_every": 60}, save_path=tmp_path / "run")

    def tell_all():
        if multiprocessing.parent_process() is None:  # those that read images see moments as well
            os.killpg(os.getpgid(0), signal.SIGTERM)

    assert wait(start("train.py", arguments, tmp_path / "said", whole[1] // 3, tell_all)) == 143
    said = (tmp_path / "said").read_text()
    assert "stopped by SIGTERM at stage" in said and "Traceback" not in said
    assert wait(start("train.py", arguments, tmp_path / "said")) == 0
    assert_same_run(tmp_path / "run", whole[0])


@pytest.fixture
def stopped(values, tmp_path, monkeypatch, capfd):
    """The flags of a training that was stopped after its fourth step, in this process."""
    values = values | {"save_path": tmp_path / "run"}
    count, add = [], Progress.add

    def add_and_stop(progress, *step):
        count.append(1)
        if len(count) == 4:
            progress.interrupts.asked = signal.SIGTERM
        add(progress, *step)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "add", add_and_stop)
        status, _, err = run(patch, capfd, "train.py", *flags(**values))
    assert (status, err.count("\n")) == (143, 1)
    return values


def one_line(outcome, pattern):
    status, _, err = outcome
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert re.search(pattern, err), err


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_unfinished_run_of_other_arguments_is_refused_by_what_differs(stopped, monkeypatch, capfd):
    before = contents(stopped["save_path"])
    other = stopped | {"seed": 1, "learning_rate": 0.5}
    pattern = (
        r"unfinished run of other arguments \(--learning_rate 0\.001 there, 0\.5 here, --seed 0 there, 1 "
    )
    one_line(run(monkeypatch, capfd, "train.py", *flags(**other)), pattern)
    one_line(run(monkeypatch, capfd, "train.py", *flags(**other, resume=True)), pattern)
    assert contents(stopped["save_path"]) == before
    status, out, _ = run(monkeypatch, capfd, "train.py", *flags(**other, overwrite=True))
    assert status == 0 and "going on" not in out


def test_an_unfinished_run_of_other_data_is_refused(stopped, wood, tmp_path, monkeypatch, capfd):
    root = shutil.copytree(wood, tmp_path / "moved")
    (root / "meta.json").write_text((root / "meta.json").read_text() + "\n")
    outcome = run(monkeypatch, capfd, "train.py", *flags(**stopped | {"train_data_path": root}))
    one_line(outcome, r"other arguments \(meta\.json \w+ there, \w+ here\)")


def test_what_changes_no_number_may_differ(stopped, whole, wood, tmp_path, monkeypatch, capfd):
    root = shutil.copytree(wood, tmp_path / "moved")
    folder = shutil.move(stopped["save_path"], tmp_path / "elsewhere")
    changes = {"train_data_path": root, "save_path": folder, "workers": 1, "save_every": 3, "keep": "all"}
    status, out, err = run(monkeypatch, capfd, "train.py", *flags(**stopped | changes))
    assert status == 0 and "going on from stage 1, epoch 2, image 2" in out, err
    assert_same_run(tmp_path / "elsewhere", whole[0])


def test_resume_without_anything_to_go_on_from_is_refused(values, whole, tmp_path, monkeypatch, capfd):
    for folder, words in ((tmp_path / "new", "holds no training"), (whole[0], "is finished")):
        outcome = run(monkeypatch, capfd, "train.py", *flags(**values, save_path=folder, resume=True))
        one_line(outcome, f"--resume: there is nothing to go on from, .*{words}.*leave --resume out")
    assert not (tmp_path / "new").exists()
    outcome = run(monkeypatch, capfd, "train.py", *flags(**values, resume=True, overwrite=True))
    one_line(outcome, "contradict each other")


def test_a_finished_run_is_refused_as_ever(values, whole, monkeypatch, capfd):
    outcome = run(monkeypatch, capfd, "train.py", *flags(**values, save_path=whole[0]))
    one_line(outcome, "holds another run .*--overwrite")


def without_its_tensors(path):
    with safe_open(path, "pt") as file:
        header = file.metadata()
    save_file({"trained.a": torch.zeros(1)}, path, header)


NO_FILES = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "of another version": lambda path: save_file({"a": torch.zeros(1)}, path, {"format": "filo-state-99"}),
    "a pickle that would run a command": lambda path: path.write_bytes(b"cos\nsystem\n(S'echo hacked'\ntR."),
    "without its tensors": without_its_tensors,
}


def assert_refused(stopped, monkeypatch, capfd, reason=""):
    outcome = run(monkeypatch, capfd, "train.py", *flags(**stopped))
    one_line(
        outcome,
        rf"state\.safetensors is no state to go on from \(.*{reason}.*\): add --overwrite to begin anew",
    )


@pytest.mark.parametrize("how", NO_FILES)
def test_a_damaged_state_is_one_clear_line(how, stopped, monkeypatch, capfd):
    NO_FILES[how](stopped["save_path"] / "state.safetensors")
    assert_refused(stopped, monkeypatch, capfd)


# what is put where, and what is said of it; the training stands at stage 1, epoch 2, image 2 of 6
BAD_TENSORS = {
    "generators.torch": [
        (torch.zeros(3), "torch.float32"),
        (torch.zeros(7, dtype=torch.uint8), r"\(7,\)"),
        (torch.full((5056,), 255, dtype=torch.uint8), "generators.torch"),
        (None, "generators.torch|torch"),
    ],
    "generators.python": [
        (torch.zeros(5, dtype=torch.int64), r"\(5,\)"),
        (torch.zeros(625), "float32"),
        (torch.full((625,), 2**32), "of a generator"),
        (torch.full((625,), 9999), "invalid state"),
    ],
    "generators.python_rest": [(torch.zeros(2, dtype=torch.float64), r"\(2,\)")],
    "generators.numpy": [
        (torch.full((624,), -1), "of a generator"),
        (torch.zeros(1, dtype=torch.int64), r"\(1,\)"),
    ],
    "generators.numpy_rest": [
        (torch.zeros(1, dtype=torch.float64), r"\(1,\)"),
        (torch.tensor([9e9, 0, 0], dtype=torch.float64), "of a generator"),
        (torch.tensor([1, torch.inf, 0], dtype=torch.float64), "infinity"),
    ],
    "optimizer.0.exp_avg": [
        (None, r"optimizer\.0 holds \['exp_avg_sq', 'step'\]"),
        (torch.zeros(1), r"exp_avg is .* \(1,\)"),
    ],
    "optimizer.0.step": [(torch.zeros(2), "step is"), (torch.tensor(1), "step is torch.int64")],
    "optimizer.0.more": [(torch.zeros(1), "'more'")],
    "optimizer.999.step": [(torch.zeros(()), "optimizer.999")],
    "optimizer.x.step": [(torch.zeros(()), "invalid literal")],
    "unheard": [(torch.zeros(1), "unpack")],
    "unheard.of": [(torch.zeros(1), "unheard")],
}
BAD_WORDS = {
    ("position", "stage"): [3, 0, True, 1.0, "1", None],
    ("position", "epoch"): [9, 1, 0, -1, True, 2.0],
    ("position", "images"): [99999, -7, 0, 3, True, 2.0],
    ("position", "loss"): ["x", float("nan"), float("inf"), 1, None],
    ("position", "seconds"): ["x", float("-inf"), False],
    ("position", "more"): [1],
    ("position",): [3, [], None],
    ("log",): [[1, 2], [], {}, "x", [[]], 10 * [{"stage": 1, "epoch": 1, "loss": 0.1, "seconds": 0.1}]],
    ("log", 0, "epoch"): [2, True, "1"],
    ("log", 0, "loss"): ["x", float("nan"), None],
    ("resumed",): [True, "1", 0.5],
    ("identity",): [3, []],
    ("environment",): [3, None],
    ("trained",): [{}],
    (): [3, [], None],
}
BAD = [(tensor, *each) for tensor, cases in BAD_TENSORS.items() for each in cases]
BAD += [(place, value, "") for place, values_of in BAD_WORDS.items() for value in values_of]


@pytest.fixture
def rewrite(stopped):
    """Gives what puts a value into a state, a tensor by its name or a word of the header by its place."""
    path = stopped["save_path"] / "state.safetensors"
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors, about = load_file(path), json.loads(header["about"])

    def write(place, value):
        is_tensor = isinstance(place, str)
        changed = tensors | {place: value} if is_tensor else tensors
        said = about if is_tensor else put(about, place, value)
        changed = {name: tensor for name, tensor in changed.items() if tensor is not None}
        save_file(changed, path, header | {"about": json.dumps(said)})

    return write


def test_a_state_that_holds_what_no_training_wrote_is_one_clear_line(stopped, rewrite, monkeypatch, capfd):
    for place, value, reason in BAD:
        rewrite(place, value)
        with monkeypatch.context() as patch:
            assert_refused(stopped, patch, capfd, reason)
    rewrite(("resumed",), 5)  # to write it anew is no harm in itself
    status, out, err = run(monkeypatch, capfd, "train.py", *flags(**stopped))
    assert status == 0 and "going on from stage 1, epoch 2, image 2" in out, err


def full(name, times):
    """Stand for a disk that is full while files of a name are written, so many times."""
    replace, left = os.replace, [times]

    def replace_or_fail(source, target):
        if name in target.name and left[0]:
            left[0] -= 1
            raise OSError(28, "No space left on device")
        replace(source, target)

    return replace_or_fail


def test_a_disk_full_of_states_costs_no_training(values, whole, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(files.os, "replace", full("state", 10**6))
    status, _, err = run(monkeypatch, capfd, "train.py", *flags(**values, save_path=tmp_path / "run"))
    assert status == 0 and "No space left on device" in err and "there is nothing to go on from" in err
    assert_same_run(tmp_path / "run", whole[0])


def test_a_disk_full_while_a_checkpoint_is_written_ends_in_one_line_and_goes_on(
    values, whole, tmp_path, monkeypatch, capfd
):
    arguments = flags(**values, save_path=tmp_path / "run")
    monkeypatch.setattr(files.os, "replace", full("stage1_epoch_02", 1))
    outcome = run(monkeypatch, capfd, "train.py", *arguments)
    one_line(outcome, r"cannot write .*stage1_epoch_02\.safetensors: No space left")
    assert (tmp_path / "run" / "stage1_epoch_01.safetensors").exists()
    monkeypatch.undo()
    monkeypatch.setattr("filo.methods.filo.FiLoModel.local_loss", lambda *_: pytest.fail("trained again"))
    status, out, _ = run(monkeypatch, capfd, "train.py", *arguments)
    assert status == 0 and "going on from stage 1, epoch 2, image 6" in out
    assert_same_run(tmp_path / "run", whole[0])


def test_the_state_before_stands_until_the_next_is_complete(stopped, monkeypatch, capfd):
    path = stopped["save_path"] / "state.safetensors"
    found, seen = state.read_state(path), []

    def save_half(tensors, temporary, _):
        temporary.write_bytes(b"half")
        seen.append(path.read_bytes())
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("filo.weights.save_file", save_half)
    assert "No space left" in complaint(lambda: state.write_state(path, found))
    assert seen == [before] and path.read_bytes() == before and not list(path.parent.glob(".*"))


def test_without_states_a_stopped_training_says_that_nothing_is_kept(values, tmp_path, monkeypatch, capfd):
    values = values | {"save_path": tmp_path / "run", "save_every": 0}
    monkeypatch.setattr(
        interrupts.Interrupts, "__enter__", lambda self: setattr(self, "asked", signal.SIGINT)
    )
    status, out, err = run(monkeypatch, capfd, "train.py", *flags(**values))
    assert status == 130 and "no state is saved" in err and "and a state of" not in out
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["args.json"]


def test_generators_and_optimisers_come_back_bit_for_bit(tmp_path):
    import random

    import numpy as np

    device = torch.device("cpu")
    parameter = torch.nn.Parameter(torch.randn(5))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    for _ in range(3):
        parameter.grad = torch.randn(5)
        optimizer.step()
    random.gauss(0, 1), np.random.standard_normal()  # the second of a pair is kept for the next call
    position = state.Position(2, 3, 4, 0.1 + 0.2, 1 / 3)
    kept = state.optimizer_tensors(optimizer)
    log = [{"stage": 1, "epoch": 1, "loss": 0.1, "seconds": 1.0}]
    args = ({"a": 1}, {}, position, log, 2, {"w": parameter}, kept)
    state.write_state(tmp_path / "state", state.State(*args, state.generator_states(device)))

    def draw():
        return (
            random.gauss(0, 1),
            random.random(),
            np.random.standard_normal(3).tolist(),
            torch.rand(3).tolist(),
        )

    wanted = draw()
    found = state.read_state(tmp_path / "state")
    state.set_generators(found.generators, device)
    assert draw() == wanted and found.position == position and found.log == log
    other = torch.nn.Parameter(found.trained["w"].clone())
    again = torch.optim.AdamW([other], fused=True)
    state.put_back(again, found.optimizer)
    for one in (parameter, other):
        one.grad = torch.ones(5)
    optimizer.step()
    again.step()
    assert torch.equal(parameter, other)
    wrong = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(6))])
    with pytest.raises(TypeError, match=r"exp_avg is torch.float32 \(5,\), wanted torch.float32 \(6,\)"):
        state.put_back(wrong, found.optimizer)


def test_a_folder_in_use_is_refused_and_what_a_killed_process_left_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE", 0)
    (tmp_path / "args.json").write_text('{"train_data_path": "d"}')
    left = tmp_path / ".state.safetensors.0123abcd.tmp"
    mine = [tmp_path / name for name in (".mine.tmp", ".notes.txt.0123abcd.tmp", "a.tmp")]
    for path in (left, *mine):
        path.write_text("x")
    with hold(tmp_path, TRAINING):
        assert not left.exists() and all(path.exists() for path in mine)
        with pytest.raises(files.InputError, match="another process is at work"), hold(tmp_path, TRAINING):
            pass
    with hold(tmp_path, TRAINING), hold(tmp_path / "new" / "run", TRAINING):
        assert (tmp_path / "new" / "run").is_dir()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_a_second_ctrl_c_ends_at_once(before):
    found = signal.signal(signal.SIGINT, before)  # a shell's background job starts with SIG_IGN
    with interrupts.stopping():
        with pytest.raises(interrupts.Stopped, match="by the keyboard"), interrupts.Interrupts() as caught:
            os.kill(os.getpid(), signal.SIGINT)
            assert caught.asked == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # from there on it cuts nothing short
    assert signal.signal(signal.SIGINT, found) is before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
