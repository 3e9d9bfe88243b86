"""Whether a run goes on where an earlier one was stopped: only if it would end as that one."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from filo.errors import InputError
from filo.processes import Processes
from filo.run_folder import STATE, TRAINING, find_run, require_free, trained_name
from filo.state import State, read_state

# where a run lies, what it shows and how it is read changes no number; of what is a file the content counts
PLACES = {"save_path", "train_data_path", "data_path", "prompts", "ckpt_path", "out", "cache_dir", "images"}
PLACES |= {"list", "clip_pretrained", "grounded_checkpoint", "groundingdino_config", "bert", "decisions"}
HOW = {"overwrite", "resume", "no_resume", "save_every", "keep", "workers", "tensorboard", "device"}
HOW |= {"no_report"}
MOST = 3  # differences that are named


def settings(arguments: Mapping[str, object]) -> dict[str, object]:
    """Give those arguments of a command, fit for JSON, that can change what comes out of it."""
    kept = {f"--{name}": value for name, value in arguments.items() if name not in PLACES | HOW}
    if "--cache_features" in kept:  # where they are kept does not matter, nor how if they are not
        kept["--cache_features"] = kept["--cache_features"] is not None
        kept["--cache_precision"] = kept["--cache_features"] and kept["--cache_precision"]
    return kept


def of_all(arguments: Mapping[str, object], processes: int) -> dict[str, object]:
    """Give the arguments of a training by several processes: how many they are does not matter, but together
    with the images that each takes in a step.
    """
    kept = {name: value for name, value in arguments.items() if name != "batch_size"}
    return kept | {"batch_size x processes": arguments["batch_size"] * processes}


def identify(
    arguments: Mapping[str, object], meta_sha256: str, prompts: Mapping[str, str], clip_sha256: str
) -> dict[str, object]:
    """Say which training it is: its settings, and the contents of the files it is made from.

    `prompts` gives the hash of every prompt file.
    """
    contents = {"meta.json": meta_sha256, "prompts": list(prompts.values()), "CLIP weights": clip_sha256}
    return settings(arguments) | contents


def difference(there: Mapping[str, object], here: Mapping[str, object]) -> str:
    """Say in what two runs differ, as far as both say it; "" if in nothing."""
    there, here = (json.loads(json.dumps(each)) for each in (there, here))  # a tuple becomes a list in a file
    names = [name for name in here if name not in there or there[name] != here[name]]
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    said = (f"{name} {_short(there.get(name))} there, {_short(here[name])} here" for name in names[:MOST])
    return ", ".join(said) + more


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False).replace('"', "")
    if re.fullmatch("[0-9a-f]{64}", text):  # a hash
        return text[:12]
    return text if len(text) <= 60 else f"{text[:57]}..."


def find_state(folder: Path, arguments: Mapping[str, object], resume: bool, overwrite: bool) -> State | None:
    """Give the state of the unfinished training that a folder holds; None where one is to begin.

    Raises:
        InputError: the folder may not be used; the training there has other arguments; or with `resume`
            there is none.
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite contradict each other: leave one out")
    is_there = (folder / STATE).is_file()
    if resume and not is_there:
        done = folder / trained_name(arguments["method"])
        why = f"{done} is finished" if done.exists() else f"{folder} holds no training with a {STATE}"
        raise InputError(f"--resume: there is nothing to go on from, {why}; leave --resume out to begin one")
    if overwrite or not is_there or not _is_training(folder):
        require_free(folder, TRAINING, overwrite)
        return None
    state = read_state(folder / STATE)
    require_same(folder, state, settings(arguments))
    return state


def _is_training(folder: Path) -> bool:
    found = find_run(folder)
    return found is not None and found[0] is TRAINING


def require_same(folder: Path, state: State, identity: Mapping[str, object]) -> None:
    """Raise `InputError` if the training in a folder is another one than this."""
    if differing := difference(state.identity, identity):
        raise InputError(
            f"{folder} holds an unfinished run of other arguments ({differing}): give the same to go on with "
            "it, choose another --save_path, or add --overwrite to throw it away"
        )


def require_same_everywhere(us: Processes, about: Mapping[str, object]) -> None:
    """Raise `InputError` if the processes of a job are about to do different things, as `about` says it."""
    for rank, other in enumerate(us.gather(dict(about))):
        if differing := difference(other, about):
            raise InputError(
                f"process {rank} of this job (there) and process {us.rank} (here) do not do the same "
                f"({differing}): give all machines the same command and files, and one folder to share"
            )


def say_where(what: str, there: Mapping[str, object], here: Mapping[str, object]) -> None:
    """Say on stderr if a run goes on under other versions or on another machine than it began; both as
    `logs.describe_environment` gives them.
    """
    if differing := difference(_flat(there), _flat(here)):
        print(f"note: {what} began elsewhere ({differing}), so last digits may differ", file=sys.stderr)


def _flat(environment: Mapping[str, object]) -> dict[str, object]:
    packages = environment.get("packages")
    rest = {name: value for name, value in environment.items() if name != "packages"}
    return rest | (packages if isinstance(packages, dict) else {})
