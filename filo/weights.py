"""How tensors are written, and read from a weights file without ever executing what is in it."""

import hashlib
import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from filo.errors import InputError
from filo.files import write_atomically

# stands before a seed instead of a file: weights that know nothing, for tests and timing
DRAWN = "drawn:"
# entries of OpenAI's archives that describe the model instead of being weights
DESCRIPTIONS = ("input_resolution", "context_length", "vocab_size")
# under which key programs put the tensors: most trainers, Grounding DINO, the published FiLo and AnomalyCLIP
WRAPPERS = ("state_dict", "model", "filo", "prompt_learner")
# names that tell whose weights a file holds; those of Grounding DINO stand in `filo.grounding.weights`
MARKS = {
    "published": ("decoder_linear.fc.0.weight", "normal_prompt_learner.ctx"),
    "trained": ("linear_heads.0.weight", "normal_prompt.ctx"),
    "anomalyclip": ("ctx_pos", "ctx_neg"),  # published and trained here have the same names
    "clip": ("visual.conv1.weight", "logit_scale"),
}


def drawn_seed(name: str) -> int | None:
    """Give the seed of weights that are called `drawn:SEED`; None for any other name.

    Raises:
        InputError: the seed is no number that a generator takes.
    """
    if not name.startswith(DRAWN):
        return None
    seed = name.removeprefix(DRAWN)
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise InputError(f"weights {name}: wanted a number below 2^63 as seed, such as {DRAWN}0")
    return int(seed)


def find_kind(names: Iterable[str]) -> Literal["published", "trained", "anomalyclip", "clip"] | None:
    """Say whose names tensors have: a published FiLo's, a FiLo's trained here, an AnomalyCLIP's, a CLIP's;
    None for others.
    """
    names = set(names)
    return next((kind for kind, marks in MARKS.items() if names.issuperset(marks)), None)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict as `read_tensors` does, its floating tensors as float32.

    Raises:
        InputError: the file is missing, cut off, or holds anything but tensors.
    """
    return {name: t.float() if t.is_floating_point() else t for name, t in read_tensors(path).items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict: safetensors, OpenAI's TorchScript archive, or a `torch.save` file, bare or under one
    of `WRAPPERS`.

    Names come out bare (no `module.`), tensors as they are, on the CPU. A file in PyTorch's zip form stays
    mapped: what is not touched takes no memory.

    Raises:
        InputError: the file is missing, cut off, or holds anything but tensors.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'a folder, not a' if path.is_dir() else 'no such'} weights file")
    try:
        weights = _read(path)
    except (pickle.UnpicklingError, LookupError, EOFError) as error:
        # their own texts say nothing, or advise to load the file without this guard
        raise InputError(_explain_refusal(path, str(error))) from error
    except Exception as error:  # a broken file fails in as many ways as it has bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} cannot be read as weights (is it complete? if not, fetch it again): {reason}"
        ) from error
    weights = {name: t for name, t in weights.items() if name not in DESCRIPTIONS}
    for name, tensor in weights.items():
        _require_plain(path, name, tensor)
    bare = {name.removeprefix("module."): t for name, t in weights.items()}
    if len(bare) < len(weights):
        raise InputError(f"{path} names a tensor twice, with and without `module.`: which one is meant?")
    return bare


def _require_plain(path: Path, name: str, tensor: Tensor) -> None:
    """Raise `InputError` for a tensor of another kind, or one that takes more memory than the file has bytes,
    as a few values spread over a large shape do.
    """
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_complex()
    if not is_plain or tensor.device.type != "cpu":
        raise InputError(f"{path}: its tensor {name} holds no plain numbers, wanted an ordinary state dict")
    if tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise InputError(
            f"{path}: its tensor {name} claims the shape {tuple(tensor.shape)}, more than the whole file "
            "holds; wanted a state dict as trainers write it"
        )


def require_finite(what: object, weights: Mapping[str, Tensor]) -> None:
    """Raise `InputError` if there is a value that is not finite; `what` names the weights."""
    if bad := next((name for name, t in weights.items() if not t.isfinite().all()), None):
        raise InputError(
            f"{what}: the weights are damaged, {bad} holds values that are not finite; take another file"
        )


def _explain_refusal(path: Path, reason: str) -> str:
    if "mmengine" not in reason:
        return (
            f"{path} is no weights file: cut off (fetch it again), or it holds more than tensors (nothing "
            "else is ever loaded)"
        )
    return (
        f"{path} is a training checkpoint of MMEngine, which holds Python objects beside the weights: strip "
        f"it by MMDetection's `python tools/model_converters/publish_model.py {path} OUT.pth` (from PyTorch "
        "2.6 on with TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 before it) and give the file it writes"
    )


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    if _is_torchscript(path):
        return read_torchscript(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's about other pickles: they open, or get a line
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__} instead of a state dict")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"its entry {name!r} is a {type(value).__name__} instead of a named tensor")
    return content


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _Module:
    """Stands for any scripted module: its state is kept as plain attributes, its code is not looked at."""

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


_ALLOWED = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
    ("torch.jit._pickle", "build_intlist"): list,
    ("torch.jit._pickle", "build_boollist"): list,
    ("torch.jit._pickle", "build_doublelist"): list,
    ("torch.jit._pickle", "build_tensorlist"): list,
    ("torch.jit._pickle", "restore_type_tag"): lambda value, tag: value,
    ("collections", "OrderedDict"): OrderedDict,
}
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "BFloat16Storage": torch.bfloat16,
}


class _TensorsOnly(pickle.Unpickler):
    """Rebuilds the tensors of a TorchScript archive; every other name in the pickle is refused."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive, self.folder = archive, folder
        self.storages: dict[str, torch.TypedStorage] = {}
        super().__init__(io.BytesIO(self._read("data.pkl")))

    def find_class(self, module: str, name: str):
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no weights file needs")

    def persistent_load(self, saved_id: tuple):
        _, dtype, key, _, _ = saved_id
        if key not in self.storages:
            raw = bytearray(self._read(f"data/{key}"))
            storage = torch.UntypedStorage.from_buffer(raw, byte_order="little", dtype=torch.uint8)
            wrapped = torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
            self.storages[key] = wrapped
        return self.storages[key]

    def _read(self, name: str) -> bytes:
        member = self.archive.getinfo(f"{self.folder}/{name}")
        if member.compress_type != zipfile.ZIP_STORED:  # a few bytes could become any number of them
            raise pickle.UnpicklingError(f"{name} is compressed, which no weights are")
        return self.archive.read(member)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a TorchScript archive, the form in which OpenAI publishes CLIP.

    `torch.jit.load` would run the archive's own code; here its data is walked and its code left alone.
    """
    with zipfile.ZipFile(path) as archive:
        folder = next(n for n in archive.namelist() if n.endswith("/constants.pkl")).rsplit("/", 1)[0]
        root = _TensorsOnly(archive, folder).load()
    weights: dict[str, Tensor] = {}
    _collect(root, "", weights)
    return weights


def _collect(module: object, prefix: str, weights: dict[str, Tensor]) -> None:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            weights[prefix + name] = value
        elif isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", weights)


def fingerprint(weights: dict[str, Tensor]) -> str:
    """Hash names and values, so that equal weights have equal fingerprints whatever file held them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().float().contiguous().numpy())
    return digest.hexdigest()


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    is_lasting: bool = False,
) -> None:
    """Write a safetensors file, as `write_atomically` writes.

    Raises:
        InputError: it cannot be written; an earlier file of that name stands untouched.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(plain, temporary, metadata)
        except SafetensorError as error:  # most likely the disk is full
            raise OSError(f"{error}") from error

    write_atomically(path, write, is_lasting)
