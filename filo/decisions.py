"""Where thresholds are kept, and when one may be used: `<checkpoint>.decisions.json` beside the checkpoint.

A score depends on more than the image: `describe_scoring` lists all of it. A threshold is used only where all
of it agrees; otherwise `Decisions.find` says what differs.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filo.all_methods import Config
from filo.errors import InputError
from filo.files import write_json
from filo.plots import Scale
from filo.prompts import ClassTexts

FORMAT = "filo-decisions-1"
UNTRAINED = Path("results")  # folder of what belongs to methods that have no checkpoint


def decisions_path(checkpoint: Path) -> Path:
    """Where a checkpoint's thresholds are kept."""
    return checkpoint.with_name(f"{checkpoint.stem}.decisions.json")


def describe_scoring(
    checkpoint_sha256: str,
    config: Config,
    image_size: int,
    precision: str,
    without: Sequence[str],
    detector: Mapping,
    texts: Mapping[str, ClassTexts],
    references: Mapping[str, Mapping[str, str]] | None = None,
) -> dict:
    """Say what scores depend on beside the image, fit for JSON.

    `detector` is a run's record of it (`filo.localise`); of each class's texts there is a hash, and of its
    `references`, hashes by file, another, where there are any.
    """
    by_boxes = {name: detector.get(name) for name in ("identity", "thresholds")}
    return {
        "checkpoint": checkpoint_sha256,
        "image_size": image_size,
        "precision": precision,
        "features_list": list(config.features_list),
        **{name: getattr(config, name) for name in config.of_testing},
        "without": sorted(without),
        "detector": "none" if detector["kind"] == "none" else by_boxes,
        "texts": {
            name: hash_texts(of_class, (references or {}).get(name)) for name, of_class in texts.items()
        },
    }


def hash_texts(texts: ClassTexts, references: Mapping[str, str] | None = None) -> str:
    """Hash what the text encoder reads and the detector looks for, and the references that were shown."""
    read = [texts.normal, texts.abnormal, texts.phrases]
    read += [texts.patch_prompts] if texts.patch_prompts else []
    read += [sorted(references.values())] if references else []
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()


def of_class(scoring: Mapping, name: str | None) -> dict:
    """Narrow a run's scoring to one class, or with None to what all classes share."""
    shared = {key: value for key, value in scoring.items() if key != "texts"}
    return shared if name is None else shared | {"texts": scoring["texts"].get(name)}


@dataclass(frozen=True)
class Decision:
    """From which score on an image of one class is anomalous, and where that comes from.

    Attributes:
        rule, rate: of `filo.thresholds`
        normal, anomalous: how many images it was made of
        achieved: on these very images, see `thresholds.rates`
        source: the run, its data and its command
        date: in UTC
        settings: the scoring it belongs to, as `of_class` has it
    """

    threshold: float
    rule: str
    rate: float | None
    normal: int
    anomalous: int
    achieved: dict
    source: dict
    date: str
    settings: dict


@dataclass(frozen=True)
class Decisions:
    """The thresholds beside a checkpoint, and one scale of heatmaps with the scoring it belongs to."""

    path: Path
    classes: dict[str, Decision] = field(default_factory=dict)
    scale: Scale | None = None
    scale_settings: dict = field(default_factory=dict)

    def find(self, name: str, scoring: Mapping) -> tuple[float | None, str]:
        """Give a class's threshold and "", or None and why there is none, in one line."""
        if not self.classes:
            return None, f"nobody calibrated it ({self.path} is not there); `python -m filo.calibrate` does"
        if name not in self.classes:
            return None, f"{self.path} has a threshold for {', '.join(self.classes)} only"
        differing = _difference(self.classes[name].settings, of_class(scoring, name))
        if differing:
            return None, f"its threshold in {self.path} is for {differing}"
        return self.classes[name].threshold, ""

    def find_scale(self, scoring: Mapping) -> Scale | None:
        """Give the scale if it belongs to this scoring."""
        return None if _difference(self.scale_settings, of_class(scoring, None)) else self.scale

    def merged(self, other: "Decisions", rescale: bool = False) -> "Decisions":
        """Add another's classes, which replace those of the same name.

        Its scale is taken where there is none for its settings yet, or to `rescale`: otherwise calibrating
        one class would change the heatmaps of all others.
        """
        stays = self.scale is not None and self.scale_settings == other.scale_settings and not rescale
        taken = self if stays or other.scale is None else other
        classes = {**self.classes, **other.classes}
        return replace(self, classes=classes, scale=taken.scale, scale_settings=taken.scale_settings)


def find_thresholds(kept: Decisions, scoring: Mapping, same_images: bool = False) -> dict:
    """What a run says of those thresholds that belong to its scoring; `same_images` if they were chosen on
    the very images of the run.
    """
    found = {name: kept.find(name, scoring)[0] for name in scoring["texts"]}
    found = {name: threshold for name, threshold in found.items() if threshold is not None}
    remark = ", chosen on these very images, hence optimistic" if same_images else ""
    return {"thresholds": found, "decisions": f"{kept.path}{remark}"}


SPOKEN = {
    "checkpoint": "another checkpoint",
    "texts": "other texts of the class (were there other --prompts?)",
}


def _difference(then: Mapping, now: Mapping) -> str:
    """Say what a threshold was made with that is different now; "" if all agrees."""
    for key in now:
        if then.get(key) != now[key]:
            said = f"{key} {_short(then.get(key))}, not {_short(now[key])}"
            return SPOKEN.get(key, said)
    return ""


def _short(value: object) -> str:
    return json.dumps(value).replace('"', "")


def write_decisions(decisions: Decisions) -> None:
    """Write all of them to their path, atomically.

    Raises:
        InputError: it cannot be written.
    """
    scale = decisions.scale and asdict(decisions.scale) | {"settings": decisions.scale_settings}
    classes = {name: asdict(decision) for name, decision in sorted(decisions.classes.items())}
    write_json(decisions.path, {"format": FORMAT, "scale": scale, "classes": classes})


def read_decisions(path: Path) -> Decisions:
    """Read them; nothing at all where there is no such file.

    Raises:
        InputError: it is damaged, or something else.
    """
    if not path.exists():
        return Decisions(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, wanted {FORMAT!r}")
        classes = {name: _decision(row) for name, row in content["classes"].items()}
        scale = dict(content["scale"] or {})
        settings = dict(scale.pop("settings", {}))
        return Decisions(path, classes, Scale(**scale) if scale else None, settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} holds no thresholds ({type(error).__name__}: {error}); remove it and calibrate again"
        ) from error


def _decision(row: Mapping) -> Decision:
    if isinstance(row["threshold"], bool) or not isinstance(row["threshold"], (int, float)):
        raise TypeError(f"a threshold is {row['threshold']!r}")
    return Decision(**{**row, "settings": dict(row["settings"])})
