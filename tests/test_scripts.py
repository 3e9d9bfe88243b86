"""The shell scripts: set-up is done once, missing things are named with the next step."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from filo.options import split_name
from filo.overview import INDUSTRIAL, MEDICAL
from tests.commands import run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path):
    """A bare copy of the scripts, beside which neither data nor an environment lies."""
    for name in ("setup.sh", "train.sh", "test.sh", "ablate.sh"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data").mkdir()
    for script in (ROOT / "data").glob("*.py"):
        shutil.copy(script, tmp_path / "data")
    return tmp_path


def bash(folder, command, **variables):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "VENV", "CALLER")} | variables
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def stand_in(folder):
    """Something that is called like Python and writes down with what arguments."""
    path = folder / "python"
    path.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "$@" >> calls\n')
    path.chmod(0o755)
    return path


def with_data(folder, names=("visa", "mvtec")):
    for name in names:
        (folder / "data" / name).mkdir()
        (folder / "data" / name / "meta.json").write_text("{}")


def with_published(folder, names=("visa", "mvtec"), kinds=("filo",)):
    (folder / "checkpoints").mkdir(exist_ok=True)
    for kind in kinds:
        for name in names:
            (folder / "checkpoints" / f"{kind}_train_on_{name}.pth").touch()


def calls_of(folder, program=""):
    """Give the command lines the stand-in was called with; of one program as flag -> value, or last value."""
    calls = [line.split() for line in (folder / "calls").read_text().splitlines()]
    if not program:
        return calls
    return [dict(zip(call[1::2], call[2::2], strict=True)) for call in calls if call[0] == program]


@pytest.mark.parametrize("script", ["train.sh", "test.sh"])
def test_missing_datasets_are_named_with_address_place_and_next_command(checkout, script):
    status, _, err = bash(checkout, f"bash {script}")
    assert status == 2
    assert (
        "the dataset visa is not in ./data/visa" in err and "the dataset mvtec is not in ./data/mvtec" in err
    )
    assert "https://github.com/amazon-science/spot-diff" in err and "https://www.mvtec.com" in err
    assert "as the top of data/visa.py draws it" in err and "data/README.md" in err
    assert f"Then once more: bash {script}" in err and "bash demo.sh" in err
    assert not (checkout / ".venv").exists()  # nothing is installed before it can be used


def test_a_missing_checkpoint_is_named_with_the_next_command(checkout):
    with_data(checkout)
    status, _, err = bash(checkout, "bash test.sh")
    assert status == 2 and err.count("\n") == 1
    assert "./checkpoints/filo_visa/filo.safetensors" in err and "./checkpoints/filo_train_on_visa.pth" in err
    assert "'bash train.sh'" in err and "checkpoints/README.md" in err


def train_and_test(folder, **variables):
    """Run both scripts with a stand-in for Python; what train.sh would have written is there for test.sh."""
    method = variables.get("METHOD", "filo")
    for name, mark in (("visa", "split_csv/1cls.csv"), ("mvtec", "bottle/test/good")):
        (folder / "data" / name / mark).mkdir(parents=True)
    for script in ("train.sh", "test.sh"):
        status, _, err = bash(folder, f"bash {script} --seed 7", PYTHON=str(stand_in(folder)), **variables)
        assert status == 0, err
        for name in ("visa", "mvtec"):
            made = folder / "checkpoints" / f"{method}_{name}"
            made.mkdir(parents=True, exist_ok=True)
            (made / f"{method}.safetensors").touch()
    calls = calls_of(folder)
    assert [call[0] for call in calls[:-1]] == [
        *("data/visa.py", "data/mvtec.py", "train.py", "train.py"),
        *("data/mvtec.py", "data/visa.py", "test.py", "test.py"),
    ]
    runs = [
        f"./checkpoints/{method}_{on}/test_on_{name}" for on, name in (("visa", "mvtec"), ("mvtec", "visa"))
    ]
    assert calls[-1] == ["-m", "filo.overview", "--out", f"./checkpoints/table_{method}.md", *runs]
    assert all(call[-2:] == ["--seed", "7"] for call in calls if call[0] in ("train.py", "test.py"))
    return calls


@pytest.mark.parametrize("method", ["filo", "anomalyclip"])
def test_the_scripts_pass_only_flags_that_the_programs_have(checkout, method, monkeypatch, capfd):
    """A stand-in for Python writes down what it is called with; the real programs must know the flags."""
    calls = train_and_test(checkout, METHOD=method)
    for program in ("train.py", "test.py"):
        used = {word for call in calls if call[0] == program for word in call if word.startswith("--")}
        of = ("--method", method) if program == "train.py" else ()
        shown = run(monkeypatch, capfd, program, *of, "--help")[1]
        assert used and {flag for flag in used if flag not in shown} == set()
    trained = [dict(zip(call[1::2], call[2::2], strict=False)) for call in calls if call[0] == "train.py"]
    rates = {"filo": ["0", "0.2"], "anomalyclip": ["0", "0"]}[method]
    assert [(c["--dataset"], c["--aug_rate"]) for c in trained] == list(
        zip(("visa", "mvtec"), rates, strict=True)
    )
    assert [c["--save_path"] for c in trained] == [f"./checkpoints/{method}_{on}" for on in ("visa", "mvtec")]
    tested = calls_of(checkout, "test.py")
    assert [c["--ckpt_path"].split("/")[2] for c in tested] == [
        f"{method}_visa",
        f"{method}_mvtec",
    ]  # never its own
    assert all(c["--method"] == method and ("--detector" in c) == (method == "filo") for c in tested)


def test_anomalyclip_is_trained_and_tested_as_its_published_scripts_do(checkout):
    calls = train_and_test(checkout, METHOD="anomalyclip")
    published = {"method": "anomalyclip", "depth": 9, "n_ctx": 12, "t_n_ctx": 4, "feature_map_layer": 0}
    published |= {
        "features_list": 24,
        "epoch": 15,
        "batch_size": 8,
        "learning_rate": "1e-3",
        "image_size": 518,
    }
    for call in (call for call in calls if call[0] == "train.py"):
        given = dict(zip(call[1::2], call[2::2], strict=True))
        assert {name: given[f"--{name}"] for name in published} == {n: str(v) for n, v in published.items()}
        assert call[call.index("--seed") + 1] == "111"  # of the script; what is handed on comes last
    tested = calls_of(checkout, "test.py")
    assert all(c["--sigma"] == "4" and c["--metrics"] == "image-pixel-level" for c in tested)


def test_anomalyclips_published_files_are_found_in_the_authors_folders(checkout):
    with_data(checkout, ("mvtec", "visa", "deep_pcb"))
    for name in ("9_12_4_multiscale", "9_12_4_multiscale_visa"):
        (checkout / "checkpoints" / name).mkdir(parents=True)
        (checkout / "checkpoints" / name / "epoch_15.pth").touch()
    fake = str(stand_in(checkout))
    status, out, err = bash(checkout, "bash test.sh mvtec deep_pcb visa", PYTHON=fake, METHOD="anomalyclip")
    assert (status, err) == (0, "") and "note:" not in out
    on_visa, on_mvtec = (f"./checkpoints/9_12_4_multiscale{end}" for end in ("", "_visa"))
    weights = [c["--ckpt_path"] for c in calls_of(checkout, "test.py")]
    assert weights == [f"{on_visa}/epoch_15.pth", *[f"{on_mvtec}/epoch_15.pth"] * 2]
    runs = [f"{on_visa}/test_on_mvtec", f"{on_mvtec}/test_on_deep_pcb", f"{on_mvtec}/test_on_visa"]
    assert calls_of(checkout)[-1][4:] == runs
    (checkout / on_visa / "epoch_15.pth").unlink()
    status, _, err = bash(checkout, "bash test.sh mvtec", PYTHON=fake, METHOD="anomalyclip")
    assert status == 2 and err.count("\n") == 1 and f"{on_visa}/epoch_15.pth" in err
    assert "./checkpoints/anomalyclip_visa/anomalyclip.safetensors" in err


@pytest.mark.parametrize("script", ["train.sh", "test.sh"])
def test_an_unknown_method_is_one_line(checkout, script):
    status, _, err = bash(checkout, f"bash {script}", METHOD="clip")
    assert (status, err) == (2, "error: METHOD=clip: wanted filo or anomalyclip\n")


@pytest.mark.parametrize("script", ["train.sh", "test.sh"])
def test_several_gpus_are_used_by_as_many_processes(checkout, script):
    with_data(checkout)
    with_published(checkout)
    fake = str(stand_in(checkout))
    status, _, err = bash(checkout, f"bash {script}", PYTHON=fake, GPUS="4")
    assert status == 0, err
    program = script.replace(".sh", ".py")
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4", program]
    assert [call[:5] for call in calls_of(checkout) if program in call] == [launched] * 2
    for wrong in ("none", "0", "2x"):
        status, _, err = bash(checkout, f"bash {script}", PYTHON=fake, GPUS=wrong)
        assert status == 2 and f"GPUS={wrong}: wanted how many processes" in err


def test_the_published_files_are_tested_with_their_detectors_and_descriptions(checkout):
    with_data(checkout)
    with_published(checkout, kinds=("filo", "grounding"))
    (checkout / "prompts").mkdir()
    (checkout / "prompts" / "official_visa.json").touch()
    status, out, err = bash(checkout, "bash test.sh", PYTHON=str(stand_in(checkout)))
    assert status == 0, err
    mvtec, visa = calls_of(checkout, "test.py")
    assert mvtec["--dataset"] == "mvtec" and mvtec["--ckpt_path"].endswith("filo_train_on_visa.pth")
    assert mvtec["--grounded_checkpoint"].endswith("grounding_train_on_visa.pth")
    assert mvtec["--detector"] == "groundingdino" and "--prompts" not in mvtec
    assert "import_official.py" in out  # for the one whose descriptions are missing
    assert visa["--ckpt_path"].endswith("filo_train_on_mvtec.pth")
    assert visa["--prompts"] == "./prompts/official_visa.json"


def test_without_weights_of_a_detector_the_test_goes_without_and_says_so(checkout):
    with_data(checkout)
    with_published(checkout)
    status, out, err = bash(checkout, "bash test.sh", PYTHON=str(stand_in(checkout)))
    assert status == 0, err
    assert "no detector's weights in './checkpoints/grounding_train_on_visa.pth'" in out
    calls = calls_of(checkout, "test.py")
    assert all(c["--detector"] == "none" and "--grounded_checkpoint" not in c for c in calls)
    script = (checkout / "test.sh").read_text().replace("DETECTOR=auto", "DETECTOR=cached")
    (checkout / "test.sh").write_text(script.replace("BERT= ", "BERT=words.txt "))
    assert bash(checkout, "bash test.sh", PYTHON=str(stand_in(checkout)))[0] == 0
    last = calls_of(checkout, "test.py")[-1]
    assert last["--detector"] == "cached" and last["--bert"] == "words.txt"


# several datasets


def test_every_set_is_tested_with_weights_that_have_not_seen_it(checkout):
    with_data(checkout, ("mvtec", "visa", "deep_pcb"))
    (checkout / "elsewhere").mkdir()
    (checkout / "elsewhere" / "meta.json").write_text("{}")
    with_published(checkout, kinds=("filo", "grounding"))
    sets = "visa deep_pcb magnetic_tile=./elsewhere mvtec"
    status, out, err = bash(checkout, f"bash test.sh {sets} --seed 3", PYTHON=str(stand_in(checkout)))
    assert (status, err) == (0, "")
    calls = calls_of(checkout, "test.py")
    assert [(c["--dataset"], c["--data_path"]) for c in calls] == [
        ("visa", "./data/visa"),
        ("deep_pcb", "./data/deep_pcb"),
        ("magnetic_tile", "./elsewhere"),
        ("mvtec", "./data/mvtec"),
    ]
    seen = [c["--ckpt_path"].removeprefix("./checkpoints/filo_train_on_") for c in calls]
    assert seen == ["mvtec.pth"] * 3 + ["visa.pth"]
    assert [c["--grounded_checkpoint"].endswith(name) for c, name in zip(calls, seen, strict=True)] == [
        True
    ] * 4
    assert all(c["--seed"] == "3" for c in calls) and out.count("import_official.py") == 2
    runs = [f"./checkpoints/test_on_{name}" for name in ("visa", "deep_pcb", "magnetic_tile", "mvtec")]
    assert calls_of(checkout)[-1] == ["-m", "filo.overview", "--out", "./checkpoints/table_filo.md", *runs]


def test_the_sets_at_the_top_of_the_script_are_tested(checkout):
    with_data(checkout, ("deep_pcb",))
    with_published(checkout, ("mvtec",))  # those trained on VisA are for MVTec AD alone
    script = (checkout / "test.sh").read_text()
    assert "SETS=(mvtec visa)" in script
    (checkout / "test.sh").write_text(script.replace("SETS=(mvtec visa)", "SETS=(deep_pcb)"))
    assert bash(checkout, "bash test.sh", PYTHON=str(stand_in(checkout)))[0] == 0
    assert [c["--dataset"] for c in calls_of(checkout, "test.py")] == ["deep_pcb"]


def test_a_set_that_is_not_there_is_named_first_and_last_and_the_others_are_tested(checkout):
    with_data(checkout, ("deep_pcb",))
    with_published(checkout)
    command = "bash test.sh deep_pcb magnetic_tile parts=./no/parts"
    status, _, err = bash(checkout, command, PYTHON=str(stand_in(checkout)))
    assert status == 1
    assert "the dataset magnetic_tile is not in ./data/magnetic_tile" in err
    assert "https://github.com/abin24/Magnetic-tile-defect-datasets." in err and "data/README.md" in err
    assert "no script data/parts.py" in err and "python data/folder.py --root ./no/parts" in err
    assert err.splitlines()[-1].startswith("not tested, since they are not there: magnetic_tile parts;")
    assert [c["--dataset"] for c in calls_of(checkout, "test.py")] == ["deep_pcb"]
    assert calls_of(checkout)[-1][-1] == "./checkpoints/test_on_deep_pcb"


def test_every_dataset_of_the_tables_has_a_script_that_says_where_it_is_asked_for(checkout):
    status, _, err = bash(checkout, f"bash test.sh {' '.join(INDUSTRIAL + MEDICAL)}")
    assert status == 2 and "bash demo.sh" in err
    named = [line.split()[3] for line in err.splitlines() if line.startswith("error: the dataset ")]
    assert tuple(named) == INDUSTRIAL + MEDICAL
    assert len(re.findall(r"fetch it: +https?://\S+\.\S+; data/README.md", err)) == len(named)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "deep_pcb ./data/deep_pcb",
            "'./data/deep_pcb' names no dataset: wanted NAME, NAME=ROOT, or NAME ROOT",
        ),
        ("deep_pcb deep_pcb=./x", "deep_pcb is named twice"),
        ("deep_pcb --save_path here", "--save_path is one folder"),
        ("=./data/deep_pcb", "names no dataset"),
    ],
)
def test_sets_that_cannot_be_told_are_one_line(checkout, words, said):
    with_data(checkout, ("deep_pcb",))
    with_published(checkout)
    status, out, err = bash(checkout, f"bash test.sh {words}", PYTHON=str(stand_in(checkout)))
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err


WORKING = """#!/bin/sh
[ "$1" = -c ] && exit
echo "$@" >> calls
if [ "$2" = filo.compare ]; then shift 4; printf '%s\\n' "$@" > runs; fi
while [ $# -gt 0 ]; do
    [ "$1" = --save_path ] && mkdir -p "$2" && touch "$2/filo.safetensors" "$2/results.json"
    shift
done
"""


def ablate(folder, changes=(), **variables):
    """Run ablate.sh with some of its lines changed; give status, error and what it trained and tested."""
    fake = stand_in(folder)
    fake.write_text(WORKING)
    script = (ROOT / "ablate.sh").read_text()
    for old, new in changes:
        assert old in script
        script = script.replace(old, new)
    (folder / "ablate.sh").write_text(script)
    (folder / "calls").write_text("")
    status, _, err = bash(folder, "bash ablate.sh", PYTHON=str(fake), **variables)
    return status, err, *([c for c in calls_of(folder) if name in c] for name in ("train.py", "test.py"))


@pytest.mark.parametrize(("boxes", "rows"), [(False, 7), (True, 9)])
def test_the_ablation_trains_seven_times_and_tests_every_row(checkout, boxes, rows):
    with_data(checkout)
    (checkout / "checkpoints").mkdir()
    if boxes:
        (checkout / "checkpoints" / "grounding_train_on_visa.pth").touch()
    status, err, trained, tested = ablate(checkout)
    assert status == 0, err
    assert all(call[-1] == "--overwrite" for call in trained)
    parts = [c[c.index("--without") + 1 : -1] if "--without" in c else [] for c in trained]
    assert parts == [
        ["descriptions", "template", "shapes", "scales"],
        ["template", "shapes", "scales"],
        ["descriptions", "shapes", "scales"],
        ["shapes", "scales"],
        ["scales"],
        ["shapes"],
        [],
    ]
    assert len(tested) == len({c[c.index("--save_path") + 1] for c in tested}) == rows
    assert sum("--grounded_checkpoint" in c for c in tested) == (5 if boxes else 0)
    runs = [split_name(run) for run in (checkout / "runs").read_text().splitlines()]
    assert len({name for name, _ in runs}) == len(runs) == rows
    assert all((checkout / folder / "results.json").exists() for _, folder in runs)
    assert sum("grounding" in name for name, _ in runs) == (5 if boxes else 0)


def test_the_ablation_goes_on_where_it_stopped_and_mixes_no_settings(checkout):
    with_data(checkout)
    assert len(ablate(checkout)[2]) == 7
    assert ablate(checkout)[2:] == ([], [])
    done = checkout / "checkpoints" / "ablation" / "visa_to_mvtec"
    shutil.rmtree(done / "linear")
    (done / "learned" / "filo.safetensors").rename(done / "learned" / "state.safetensors")  # it was stopped
    (done / "states" / "plain" / "results.json").unlink()
    _, _, trained, tested = ablate(checkout)
    assert ["--overwrite" in call for call in trained] == [False, True] and len(tested) == 2
    swapped = [("TRAIN=visa", "TRAIN=mvtec"), ("TEST=mvtec", "TEST=visa")]
    assert len(ablate(checkout, swapped)[2]) == 7
    for line in (("TRAIN_FLAGS=()", "TRAIN_FLAGS=(--epoch 1)"), ("TEST_FLAGS=()", "TEST_FLAGS=(--seed 1)")):
        status, err, trained, tested = ablate(checkout, [line])
        assert status == 2 and "made by other settings" in err and not trained and not tested


def test_the_ablation_runs_by_several_processes_and_mixes_no_numbers_of_them(checkout):
    with_data(checkout)
    assert ablate(checkout, GPUS="1")[0] == 0
    status, err, trained, _ = ablate(checkout, GPUS="2")
    assert status == 2 and "made by other settings" in err and not trained
    shutil.rmtree(checkout / "checkpoints")
    _, _, trained, tested = ablate(checkout, GPUS="2")
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert len(trained) == 7 and all(call[:4] == launched for call in trained + tested)
    assert ablate(checkout, GPUS="2")[2:] == ([], [])


def test_another_dataset_is_tested_by_name(checkout):
    root = checkout / "data" / "deep_pcb"
    root.mkdir()
    (root / "meta.json").write_text("{}")
    command = "bash test.sh deep_pcb ./data/deep_pcb ours.safetensors --grounded_checkpoint drawn:0 --seed 3"
    status, out, err = bash(checkout, command, PYTHON=str(stand_in(checkout)))
    assert status == 0, err
    call = calls_of(checkout)[-1]
    assert call[call.index("--dataset") + 1] == "deep_pcb" and call[-4:] == command.split()[-4:]
    assert "no detector's weights in './checkpoints/groundingdino_swint_ogc.pth'" in out


def test_the_environment_is_made_once_and_anew_when_requirements_change(checkout):
    requirements = checkout / "requirements.txt"
    requirements.write_text("# nothing\n")
    command = 'source setup.sh; setup requirements.txt; "$PYTHON" -c "import sys; print(sys.prefix)"'
    status, out, err = bash(checkout, command)
    assert status == 0, err
    assert "making a virtual environment" in out and "installing" in out
    assert out.splitlines()[-1] == str(checkout / ".venv")
    assert bash(checkout, command)[1].splitlines() == [str(checkout / ".venv")]
    requirements.write_text("# something else\n")
    again = bash(checkout, command)[1]
    assert "installing" in again and "making" not in again


def test_a_failed_install_is_said_and_tried_again(checkout):
    (checkout / "requirements.txt").write_text("./no-such-package\n")
    command = "source setup.sh; setup requirements.txt"
    for _ in range(2):
        status, _, err = bash(checkout, command)
        assert status == 2 and "error: pip could not install" in err


def test_an_environment_of_ones_own_is_respected(checkout):
    command = 'source setup.sh; setup requirements.txt; echo "$PYTHON"'
    status, out, _ = bash(checkout, command, PYTHON=sys.executable)
    assert (status, out) == (0, f"{sys.executable}\n")
    assert not (checkout / ".venv").exists()


def test_an_environment_of_ones_own_that_lacks_packages_is_refused(checkout):
    bare = checkout / "bare"
    bare.write_text('#!/bin/sh\necho "ModuleNotFoundError: No module named torch" >&2; exit 1\n')
    bare.chmod(0o755)
    status, _, err = bash(checkout, "source setup.sh; setup requirements.txt", PYTHON=str(bare))
    assert status == 2 and "pip install -r requirements.txt" in err


@pytest.mark.slow
def test_a_broken_environment_is_made_anew(checkout):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "pyvenv.cfg").touch()
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (checkout / ".venv" / "bin" / "python").chmod(0o755)
    (checkout / "requirements.txt").write_text("# nothing\n")
    status, out, err = bash(checkout, "source setup.sh; setup requirements.txt")
    assert status == 0, err
    assert "making a virtual environment" in out


def test_a_direction_that_is_trained_is_not_trained_again(checkout):
    for name in ("visa", "mvtec"):
        (checkout / "data" / name).mkdir()
        (checkout / "data" / name / "meta.json").write_text("{}")
    (checkout / "checkpoints" / "filo_visa").mkdir(parents=True)
    (checkout / "checkpoints" / "filo_visa" / "filo.safetensors").touch()
    fake = stand_in(checkout)
    status, out, _ = bash(checkout, "bash train.sh", PYTHON=str(fake))
    assert status == 0 and "filo_visa/filo.safetensors is there" in out
    assert [call[2] for call in calls_of(checkout)] == ["mvtec"]


@pytest.mark.parametrize("mark", ["notes.txt", "pyvenv.cfg"])
def test_a_folder_without_a_python_that_runs_is_left_alone(checkout, mark):
    (checkout / "own").mkdir()
    (checkout / "own" / mark).touch()
    status, _, err = bash(checkout, "source setup.sh; setup requirements.txt", VENV=str(checkout / "own"))
    assert status == 2 and err.count("\n") == 1 and "holds no Python that runs" in err
    assert [path.name for path in (checkout / "own").iterdir()] == [mark]


@pytest.mark.slow
def test_an_environment_without_pip_is_not_wiped(checkout):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(checkout / "own")], check=True)
    (checkout / "own" / "mine.txt").write_text("")
    (checkout / "requirements.txt").write_text("# nothing\n")
    status, _, err = bash(checkout, "source setup.sh; setup requirements.txt", VENV="./own", OLDPWD="/")
    assert status == 0 or "has no pip" in err
    assert (checkout / "own" / "mine.txt").exists()


def test_missing_weights_are_named_with_the_next_command(checkout):
    for name in ("visa", "mvtec"):
        (checkout / "data" / name).mkdir()
        (checkout / "data" / name / "meta.json").write_text("{}")
    script = (
        (checkout / "train.sh").read_text().replace("CLIP_PRETRAINED=openai", "CLIP_PRETRAINED=/no/ViT.pt")
    )
    (checkout / "train.sh").write_text(script)
    status, _, err = bash(checkout, "bash train.sh")
    assert status == 2 and err.count("\n") == 1
    assert "/no/ViT.pt does not exist" in err and "bash train.sh" in err and "bash demo.sh" in err


def test_a_python_named_from_another_folder_is_found(checkout):
    (checkout / "bin").mkdir()
    fake = stand_in(checkout / "bin")
    for name in ("visa", "mvtec"):
        (checkout / "data" / name).mkdir()
        (checkout / "data" / name / "meta.json").write_text("{}")
    status, _, err = bash(checkout / "bin", "bash ../train.sh", PYTHON=f"./{fake.name}")
    assert status == 0, err
    assert "is no program" in bash(checkout, "bash train.sh", PYTHON="none/python")[2]


# the programs themselves


@pytest.fixture
def whole(checkout, tiny_config):
    """A checkout in which the programs are, with train.sh set to a tiny CLIP and one epoch."""
    for name in ("filo", "prompts", "train.py", "test.py"):
        (checkout / name).symlink_to(ROOT / name)
    script = (checkout / "train.sh").read_text()
    for name, value in (
        ("CLIP_MODEL", tiny_config),
        ("CLIP_PRETRAINED", "drawn:0"),
        ("IMAGE_SIZE", "56"),
        ("EPOCH", "1"),
        ("ADAPTER_EPOCH", "1"),
        ("N_CTX", "4"),
        ("FEATURES_LIST", '"1 2 4"'),
    ):
        script, count = re.subn(rf"(?m)^( *{name}=)(\"[^\"]*\"|\S+)", rf"\g<1>{value}", script)
        assert count, name
    (checkout / "train.sh").write_text(script)
    return checkout


@pytest.mark.parametrize("method", ["filo", pytest.param("anomalyclip", marks=pytest.mark.slow)])
def test_a_method_is_trained_tested_and_put_into_the_table(whole, wood, method):
    known = {"PYTHON": sys.executable, "METHOD": method, "OMP_NUM_THREADS": "1"}
    for name in ("visa", "mvtec"):
        (whole / "data" / name).symlink_to(wood)
    flags = "--prompts prompts/demo_mvtec.json --device cpu"
    status, out, err = bash(whole, f"bash train.sh {flags}", **known)
    assert status == 0, err
    assert out.splitlines()[-1].endswith("bash test.sh")
    status, out, err = bash(whole, f"bash test.sh mpdd=./data/mvtec mvtec btad {flags}", **known)
    assert status == 1, err
    assert "not tested, since they are not there: btad" in err and "not zero-shot" in err  # both are one here
    table = (whole / "checkpoints" / f"table_{method}.md").read_text()
    assert out.endswith(table)
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert rows[0] == "set" and rows[2:] == ["mvtec (1 of 15 classes)", "mpdd", "mean of 2 industrial"]
    assert "n/a" not in table
