"""What a weights file is: a short report on whose it is, what is in it, and where it belongs."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from torch import Tensor

from filo.all_methods import METHODS, Config, method_name, preset_name
from filo.checkpoint import PUBLISHED_CLIP, Checkpoint, is_ours, load_checkpoint
from filo.clip.sizes import read_sizes
from filo.clip.tokens import fill_table
from filo.errors import InputError, printable
from filo.files import sha256_of
from filo.grounding.weights import find_form
from filo.published import TWIN, clip_part, list_unused
from filo.published_anomalyclip import list_unused as list_unused_of_anomalyclip
from filo.weights import find_kind, fingerprint, read_tensors

# what a report counts together: the first pattern that a name begins with; others by their first word
FILO_PARTS = {
    "linear heads": r"linear_heads\.|decoder_linear\.",
    "MMCI heads": r"mmci_heads\.|decoder_cov\.",
    "prompts": r"(ab)?normal_prompt",
    "adapter": r"adapter\.",
}
ANOMALYCLIP_PARTS = {"prompts": r"ctx_(pos|neg)", "deep tokens": r"compound_prompts_text\."}
PARTS = {"filo": FILO_PARTS, "anomalyclip": ANOMALYCLIP_PARTS}
CLIP_PARTS = {
    "CLIP's image tower": r"visual\.",
    "CLIP's text tower": r"(?!logit_)",
    "CLIP's scale": r"logit_",
}
DETECTOR_NAMES = {"original": "the original names", "mmdetection": "MMDetection's names"}
OTHER = {"visa": "mvtec", "mvtec": "visa"}  # what is left to test on, zero-shot

GROUPS, LABEL = 12, 24  # lines at most of what is counted, letters at most before a line

Rows = list[tuple[str, str]]


def describe(path: Path, features_list: tuple[int, ...] | None = None) -> tuple[str, bool]:
    """Give the report on a weights file, and whether the file is of a known kind.

    `features_list` is for published files that do not have four linear heads.

    Raises:
        InputError: it cannot be read, or is not complete.
    """
    weights = read_tensors(path)
    form = find_form(weights)
    if is_ours(path):
        title = load_checkpoint(path).title
        what, rows = f"{title} checkpoint of this project, without its CLIP", _ours(path)
    elif find_kind(weights) == "published":
        what, rows = "published FiLo weights, with their CLIP", _published(path, weights, features_list)
    elif find_kind(weights) == "anomalyclip":
        what, rows = "published AnomalyCLIP prompts", _anomalyclip(path, weights, features_list)
    elif form:
        what = f"Grounding DINO, a detector, in {DETECTOR_NAMES[form]}"
        rows = [*_count(weights, {}), ("next", _detector_command(path))]
    elif find_kind(weights) == "clip":
        what, rows = "CLIP weights", _clip(path, weights)
    else:
        some = ", ".join(sorted(weights)[:3])
        what, rows = "unknown: no FiLo, AnomalyCLIP, CLIP or Grounding DINO", _count(weights, {})
        rows.append(("first names", some or "none, it is empty"))
        return _layout(path, what, rows), False
    return _layout(path, what, rows), True


def _layout(path: Path, what: str, rows: Rows) -> str:
    rows = [
        ("what", what),
        ("size", f"{path.stat().st_size / 1e6:,.1f} MB"),
        ("sha256", sha256_of(path)),
        *rows,
    ]
    rows = [(printable(label)[:LABEL], printable(value)) for label, value in rows]
    width = max(len(label) for label, _ in rows)
    return "\n".join([str(path), *(f"  {label:<{width}}  {value}" for label, value in rows)])


def _count(weights: Mapping[str, Tensor], parts: Mapping[str, str]) -> Rows:
    """One line for each part: tensors, parameters, dtypes."""
    groups: dict[str, list[Tensor]] = {}
    for name, tensor in weights.items():
        label = next((part for part, start in parts.items() if re.match(start, name)), name.split(".")[0])
        groups.setdefault(label, []).append(tensor)
    order = [part for part in parts if part in groups] + [label for label in groups if label not in parts]
    rows = [(label, _summary(groups[label])) for label in order[:GROUPS]]
    rest = [tensor for label in order[GROUPS:] for tensor in groups[label]]
    return [*rows, ("others", _summary(rest))] if rest else rows


def _summary(tensors: list[Tensor]) -> str:
    kinds = ", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors}))
    return f"{len(tensors):>4} tensors  {sum(t.numel() for t in tensors):>12,} parameters  {kinds}"


# ---- the kinds


def _ours(path: Path) -> Rows:
    checkpoint = load_checkpoint(path)
    clip = checkpoint.clip
    said = f"{clip['model'] or 'a model not said'}, at {clip['image_size']} pixels, from {clip['pretrained']}"
    parts = PARTS[method_name(checkpoint.config)]
    rows = [*_count(checkpoint.state, parts), *_config(checkpoint.config)]
    rows += [("CLIP", said), ("its fingerprint", clip["sha256"][:12]), *_provenance(checkpoint.provenance)]
    return [*rows, ("next", _test_command(path, checkpoint, ()))]


def _published(path: Path, weights: Mapping[str, Tensor], features_list: tuple[int, ...] | None) -> Rows:
    checkpoint = load_checkpoint(path, features_list)
    frozen, unused = clip_part(weights), list_unused(weights)
    twins = [t for name, t in weights.items() if name.startswith(TWIN) and name not in unused]
    rows = [*_count(checkpoint.state, FILO_PARTS), *_count(frozen, CLIP_PARTS)]
    if twins:
        rows.append(("text tower again", f"{_summary(twins)} (text_encoder.*, equal to CLIP's)"))
    rows += [("unused", ", ".join(unused) or "nothing"), *_config(checkpoint.config)]
    sizes, name = read_sizes(frozen), checkpoint.clip["model"] or f"of other sizes than {PUBLISHED_CLIP}"
    rows.append(("CLIP", f"{name}, at {sizes.image_size} pixels, in this file"))
    rows += [("its sizes", str(sizes)), ("its fingerprint", checkpoint.clip["sha256"][:12])]
    return [*rows, *_origin(path, checkpoint, features_list or ())]


def _anomalyclip(path: Path, weights: Mapping[str, Tensor], features_list: tuple[int, ...] | None) -> Rows:
    checkpoint = load_checkpoint(path, features_list)
    unused = list_unused_of_anomalyclip(weights)
    rows = _count(checkpoint.state, ANOMALYCLIP_PARTS)
    if unused:
        rows.append(
            ("unused", f"{len(unused)} tensors: {', '.join(unused[:3])}{', ...' * (len(unused) > 3)}")
        )
    rows += [*_config(checkpoint.config)]
    rows.append(
        ("CLIP", f"not in this file; {checkpoint.clip['model'] or 'a model not said'} is taken for it")
    )
    return [*rows, *_origin(path, checkpoint, features_list or ())]


def _origin(path: Path, checkpoint: Checkpoint, features_list: tuple[int, ...]) -> Rows:
    """What a published file's name says of its training, and what to do with it."""
    dataset = checkpoint.provenance["dataset"]
    said = "not known" if dataset == "unknown" else f"{dataset}, by the file's name"
    return [("trained on", said), ("next", _test_command(path, checkpoint, features_list))]


def _clip(path: Path, weights: Mapping[str, Tensor]) -> Rows:
    plain = {name.removeprefix("text."): t for name, t in fill_table(weights).items()}
    rows = [*_count(plain, CLIP_PARTS), ("fingerprint", fingerprint(weights)[:12])]
    try:
        sizes = read_sizes(plain)
    except InputError as error:
        return [*rows, ("of no use", f"{error}")]
    model = {"clip_model": PUBLISHED_CLIP if sizes.fits(PUBLISHED_CLIP) else "MODEL"}
    return [
        *rows,
        ("sizes", str(sizes)),
        ("next", _command("train.py", "visa", clip_pretrained=path, **model)),
    ]


# ---- what a checkpoint says about itself


def _config(config: Config) -> Rows:
    preset = preset_name(config)
    if preset == "custom":
        presets = METHODS[method_name(config)].presets
        odd = {name: _differences(config, other, config.sizes) for name, other in presets.items()}
        nearest = min(odd, key=lambda name: len(odd[name]))
        preset = f"custom, {nearest} but for {', '.join(odd[nearest])}"
    sizes = [(name, getattr(config, name)) for name in config.sizes]
    said = [(name, " ".join(map(str, v)) if isinstance(v, tuple) else str(v)) for name, v in sizes]
    return [("preset", preset), *said]


def _differences(config: object, other: object, sizes: Sequence[str], prefix: str = "") -> list[str]:
    """The fields, other than `sizes`, in which one config differs from another."""
    found = []
    for field in fields(config):
        value, wanted = getattr(config, field.name), getattr(other, field.name)
        if is_dataclass(value):
            found += _differences(value, wanted, (), f"{field.name}.")
        elif value != wanted and field.name not in sizes:
            found.append(f"{prefix}{field.name} {value!r}")
    return found


def _provenance(said: dict) -> Rows:
    """What training wrote down; checkpoints from elsewhere may say less."""
    arguments, environment = _object(said.get("arguments")), _object(said.get("environment"))
    packages = _object(environment.get("packages"))
    meta = f" (meta.json {said['meta_sha256'][:12]})" if said["meta_sha256"] else ""
    run = [f"seed {arguments['seed']}"] if "seed" in arguments else []
    run += [f"{name} {said[name]}" for name in ("stage", "epoch", "loss") if name in said]
    code = [f"{name} {version}" for name, version in packages.items()]
    code += [f"commit {environment['commit']}"] if environment.get("commit") else []
    origin = _object(said.get("converted_from"))
    rows = [
        ("trained on", said["dataset"] + meta),
        ("run", ", ".join(run)),
        ("code", ", ".join(code)),
        ("hardware", environment.get("hardware")),
        ("origin", said.get("published")),
        ("converted from", origin.get("file") and f"{origin['file']}, sha256 {origin.get('sha256')}"),
    ]
    return [(label, str(value)) for label, value in rows if value]


def _object(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _test_command(path: Path, checkpoint: Checkpoint, features_list: tuple[int, ...]) -> str:
    more: dict[str, object] = {} if checkpoint.clip["model"] else {"clip_model": "MODEL"}
    if features_list and "published" in checkpoint.provenance:
        more["features_list"] = features_list
    return _command("test.py", OTHER.get(checkpoint.provenance["dataset"], "mvtec"), ckpt_path=path, **more)


def _detector_command(path: Path) -> str:
    tuned = re.search("train_on_(mvtec|visa)", path.name)
    dataset = OTHER[tuned[1]] if tuned else "mvtec"
    return _command("test.py", dataset, ckpt_path="CHECKPOINT", grounded_checkpoint=path)


def _command(script: str, dataset: str, **flags: object) -> str:
    data = "train_data_path" if script == "train.py" else "data_path"
    words = ["python", script, "--dataset", dataset, f"--{data}", f"data/{dataset}"]
    for name, value in flags.items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)
