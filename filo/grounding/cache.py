"""What the detector said is kept on disk, so that it runs once for an image whatever is asked of it later.

    FOLDER/<detector>/detector.json     which weights, config and image side
    FOLDER/<detector>/<request>.npz     boxes, token probabilities and tokens of one image and caption

A detector is known by the hash of its weights, config and side, a request by that of the image's bytes and
its caption; where files lie and what they are called does not matter. Kept is what there is before any
threshold.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from filo.errors import ImageError, InputError
from filo.files import sha256_of, sweep_old, write_atomically, write_json
from filo.grounding.boxes import Detection
from filo.weights import drawn_seed

ABOUT = "detector.json"
VERSION = 2  # of what is computed and how it is kept; another one never reads these files


class BoxCache:
    """The answers of one detector; several processes may use it at once.

    `about` says which detector it is: weights by hash, config, image side.
    """

    def __init__(self, folder: Path, about: dict) -> None:
        self.folder, self.about = folder, about
        self._has_written = False

    def get(self, key: str) -> Detection | None:
        """Give an answer; None if it is not there or damaged, so that it is made again."""
        try:
            with np.load(self._path(key), allow_pickle=False) as file:
                boxes, probabilities = file["boxes"], file["probabilities"]
                tokens = tuple(str(token) for token in file["tokens"])
        except Exception:  # a damaged file fails in as many ways as it has bytes; its checksums notice
            return None
        fits = boxes.shape == (len(boxes), 4) and probabilities.shape == (len(boxes), len(tokens))
        return Detection(boxes, probabilities, tokens) if fits and len(boxes) else None

    def put(self, key: str, answer: Detection) -> None:
        """Keep an answer.

        Raises:
            InputError: it cannot be written.
        """

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:  # `savez` would add a suffix to a name
                np.savez(
                    file,
                    boxes=answer.boxes,
                    probabilities=answer.probabilities,
                    tokens=np.array(answer.tokens, dtype=str),
                )

        write_atomically(self._path(key), write)
        if not self._has_written:  # only now there is something to describe
            self._has_written = True
            sweep_old(self.folder, ".npz")
            if _read(self.folder / ABOUT) != self.about:
                write_json(self.folder / ABOUT, self.about)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def open_cache(root: Path, weights: str | None, config: dict, side: int) -> BoxCache:
    """Open the cache of the detector of these weights (a file, or `drawn:SEED`), config and image side.

    Without weights the one detector is meant that there are answers of for this config and side.

    Raises:
        InputError: there is no such file, or not one such detector.
    """
    if weights is None:
        return _find_only(root, config, side)
    path = Path(weights)
    if drawn_seed(weights) is None and not path.is_file():
        raise InputError(
            f"{path}: no such detector weights; correct --grounded_checkpoint, leave it out with --detector "
            "cached to use what was found before, or go without by --detector none"
        )
    identity = {"version": VERSION, "config": config, "side": side}
    identity["weights"] = sha256_of(path) if path.is_file() else weights
    folder = root / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return BoxCache(folder, json.loads(json.dumps(identity | {"file": path.name})))


def _find_only(root: Path, config: dict, side: int) -> BoxCache:
    wanted = {"version": VERSION, "config": json.loads(json.dumps(config)), "side": side}
    known = {about.parent: _read(about) for about in sorted(root.glob(f"*/{ABOUT}"))}
    fitting = [folder for folder, about in known.items() if wanted.items() <= about.items()]
    if len(fitting) == 1:
        return BoxCache(fitting[0], known[fitting[0]])
    names = ", ".join(sorted(str(known[folder].get("file")) for folder in fitting)) or "none"
    raise InputError(
        f"{root} holds boxes of {len(fitting)} detectors for this config and {side} pixels ({names}), wanted "
        "one: name its weights by --grounded_checkpoint"
    )


def _read(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def request_key(image: Path, caption: str) -> str:
    """Name what is asked of an image: by its bytes and the caption.

    Raises:
        ImageError: the image cannot be read.
    """
    try:
        return hashlib.sha256(f"{sha256_of(image)} {caption}".encode()).hexdigest()
    except OSError as error:
        raise ImageError(f"{image} cannot be read: {error.strerror or error}") from error
