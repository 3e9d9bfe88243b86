"""How a prediction that was stopped goes on: what it is of stands in its folder until it is finished.

    RUN/unfinished.json    what the predictions depend on: settings, weights, texts, images

What is done is told by the run's records; the batch in work is looked at again.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, takewhile
from pathlib import Path

from filo.errors import InputError
from filo.files import readable, write_json
from filo.output import write_table
from filo.records import cut_records, iterate_records, leading_records, small_path
from filo.resume import difference, settings
from filo.run_folder import ABOUT, PREDICTED, PREDICTION, find_run, require_free
from filo.worklist import Item, Worklist


def require_usable(run: Path, overwrite: bool, of_job: bool = False) -> bool:
    """Say whether a folder holds an unfinished prediction that may go on; where others of a job may not be
    finished, a finished one too.

    Raises:
        InputError: it holds something else that is not to be thrown away.
    """
    found = find_run(run)
    names = (ABOUT, PREDICTED) if of_job else (ABOUT,)
    has_begun = found is not None and found[0] is PREDICTION and any((run / name).is_file() for name in names)
    if has_begun and not overwrite:
        return True
    require_free(run, PREDICTION, overwrite)
    return False


def identify(arguments: Mapping[str, object], work: Worklist, answers: Mapping[str, object]) -> dict:
    """Say which prediction it is; `answers` is what else its files depend on. Images count by name, class,
    size and time.
    """
    return identify_shards(arguments, work, answers) | {"--shard": arguments["shard"]} | work.describe()


def identify_shards(arguments: Mapping[str, object], work: Worklist, answers: Mapping[str, object]) -> dict:
    """Say which prediction it is a shard of: what all shards must have in common."""
    same = {name: value for name, value in settings(arguments).items() if name != "--shard"}
    return same | (work.describe_all() if work.shard else {}) | dict(answers)


def require_same(run: Path, identity: Mapping[str, object]) -> None:
    """Raise `InputError` if the prediction in a folder, unfinished or a finished shard, is another one."""
    is_unfinished = (run / ABOUT).is_file()
    path = run / (ABOUT if is_unfinished else PREDICTED)
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
        there = there if is_unfinished else there["shard"]["same"] | there["shard"]["own"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): add --overwrite to begin anew") from error
    if differing := difference(there, identity):
        what = "an unfinished run" if is_unfinished else "a run"
        raise InputError(
            f"{run} holds {what} of other arguments ({differing}): give the same to go on with "
            "it, choose another --out, or add --overwrite to throw it away"
        )


def begin(run: Path, identity: Mapping[str, object]) -> None:
    """Say in a run's folder that it is not finished, and what it is."""
    write_json(run / ABOUT, identity)


def take_up(
    run: Path, work: Worklist, batch_size: int, count_pixels: Callable[[Path], int], has_pictures: bool = True
) -> tuple[int, Iterator[list[Item]]]:
    """Count the images of the batches that are done, and give the batches that are not; what is there of
    these goes, but for pictures, which are drawn anew where the run `has_pictures`.

    Raises:
        InputError: a record is damaged, or the disk is full.
    """
    done = _count_done(run, work, has_pictures)
    left = work.batches(batch_size, count_pixels, done)
    first = next(left, None)
    count = done if first is None else first[0].number
    cut_records(run, count)
    write_table(run, iterate_records(run))
    return count, left if first is None else chain([first], left)


def _count_done(run: Path, work: Worklist, has_pictures: bool) -> int:
    """Count the images of which record and pictures are complete; a record is written before its pictures."""
    pairs = zip((record for _, record in leading_records(run)), work.items(), strict=False)
    own = takewhile(lambda pair: pair[0].image == readable(pair[1].path), pairs)
    found = deque(own, maxlen=1)
    if not found:
        return 0
    last, _ = found[0]
    count = last.index + 1
    if last.error or not has_pictures:
        return count
    # the last of its files
    drawn = run / last.heatmap if last.heatmap else small_path(run, last.index, "map")
    return count if drawn.is_file() else count - 1


def finish(run: Path) -> None:
    """Say that there is nothing left to do."""
    (run / ABOUT).unlink(missing_ok=True)
