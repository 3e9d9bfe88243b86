"""Weights come out of every file form bit for bit, and nothing in a file is ever executed."""

import pickle
import shutil
import sys
import types
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filo.errors import InputError
from filo.weights import MARKS, find_kind, read_tensors, read_weights
from tests.trees import complaint

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
]


def openai_weights():
    """A state dict with the names and kinds of tensors of OpenAI's archives."""
    g = torch.Generator().manual_seed(1)
    block = {"attn.in_proj_weight": (12, 4), "attn.in_proj_bias": (12,), "mlp.c_fc.weight": (16, 4)}
    shapes = {"visual.conv1.weight": (4, 3, 2, 2), "visual.class_embedding": (4,), "text_projection": (4, 5)}
    shapes |= {f"transformer.resblocks.{i}.{name}": shape for i in (0, 1) for name, shape in block.items()}
    weights = {name: torch.randn(shape, generator=g).half() for name, shape in shapes.items()}
    weights["ln_final.weight"] = torch.randn(4, generator=g)  # OpenAI keeps layer norms in fp32
    return weights | {"logit_scale": torch.tensor(4.6052)}


class Node(nn.Module):
    """A module that does nothing but hold tensors."""

    def forward(self, x):
        return x


def module_of(weights, buffers=()):
    root = Node()
    for name, value in weights.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if part not in node._modules:
                node.add_module(part, Node())
            node = node._modules[part]
        if name in buffers:
            node.register_buffer(leaf, value)
        else:
            node.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    return root


def save_archive(weights, path, compiler="trace"):
    sizes = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    root = module_of(weights | {n: torch.tensor(v) for n, v in sizes.items()}, buffers=sizes)
    scripted = torch.jit.trace(root, torch.ones(1)) if compiler == "trace" else torch.jit.script(root)
    torch.jit.save(scripted, path)
    return path


def save_old(weights, path):
    torch.save(weights, path, _use_new_zipfile_serialization=False)


SAVERS = {
    "a.safetensors": save_file,
    "a.pt": torch.save,
    "a.old.pt": save_old,
    "a.state.pt": lambda weights, path: torch.save({"epoch": 3, "state_dict": weights}, path),
    "a.ddp.pt": lambda weights, path: torch.save({f"module.{n}": t for n, t in weights.items()}, path),
    "a.traced.pt": save_archive,
    "a.scripted.pt": lambda weights, path: save_archive(weights, path, "script"),
}


def assert_same_bits(found, wanted):
    assert sorted(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == torch.float32 and found[name].shape == tensor.shape, name
        assert torch.equal(found[name].view(torch.int32), tensor.float().view(torch.int32)), name


@pytest.mark.parametrize("name", SAVERS)
def test_every_form_gives_the_same_tensors_as_float32(name, tmp_path):
    SAVERS[name](openai_weights(), tmp_path / name)
    assert_same_bits(read_weights(tmp_path / name), openai_weights())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_whole_numbers_stay(dtype, tmp_path):
    weights = {"a": torch.randn(3, 2, dtype=torch.float64).to(dtype), "n": torch.tensor([2**40 + 1])}
    for name in ("a.safetensors", "a.pt", "a.traced.pt"):
        SAVERS[name](weights, tmp_path / name)
        found = read_weights(tmp_path / name)
        assert found["a"].dtype == torch.float32 and torch.equal(found["a"], weights["a"].float())
        assert found["n"].dtype == torch.int64 and found["n"].item() == 2**40 + 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", SAVERS)
def test_tensors_can_be_had_as_they_are(name, dtype, tmp_path):
    weights = {"a": torch.randn(3, 2).to(dtype), "n": torch.tensor([7])}
    SAVERS[name](weights, tmp_path / name)
    found = read_tensors(tmp_path / name)
    assert found["a"].dtype == dtype and torch.equal(found["a"], weights["a"])
    assert found["n"].dtype == torch.int64


def test_a_tensor_named_with_and_without_prefix_is_refused(tmp_path):
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "a.pt")
    assert "twice, with and without `module.`" in message(tmp_path / "a.pt")


def test_names_tell_the_kind():
    assert [find_kind([*marks, "other"]) for marks in MARKS.values()] == list(MARKS)
    assert set(MARKS) == {"published", "trained", "anomalyclip", "clip"}
    assert find_kind(openai_weights()) == find_kind(iter(MARKS["clip"])) == "clip"
    assert find_kind([]) is find_kind(["logit_scale"]) is None


@pytest.mark.parametrize("name", ["a.pt", "a.traced.pt", "a.scripted.pt"])
def test_shared_and_strided_tensors_keep_their_values(name, tmp_path):
    big = torch.arange(24.0).view(4, 6)
    weights = {"whole": big, "turned": big.T, "slice": big[1:3, ::2], "last": big[3, 5], "again": big}
    SAVERS[name](weights, tmp_path / name)
    found = read_weights(tmp_path / name)
    assert_same_bits({n: t.contiguous() for n, t in found.items()}, weights)


def test_not_a_number_and_infinity_survive(tmp_path):
    values = torch.tensor([float("nan"), float("inf"), -0.0, 1e-40])
    for name, save in SAVERS.items():
        save({"odd": values}, tmp_path / name)
        assert_same_bits(read_weights(tmp_path / name), {"odd": values})


def test_the_code_of_an_archive_is_not_looked_at(tmp_path):
    save_archive(openai_weights(), tmp_path / "whole.pt")
    rewrite(tmp_path / "whole.pt", tmp_path / "spoilt.pt", lambda name: name.endswith(".py"), b"1 / 0")
    assert_same_bits(read_weights(tmp_path / "spoilt.pt"), openai_weights())


def rewrite(source, target, wanted, content):
    """Copy a zip archive with the content of the wanted members replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if wanted(name) else old.read(name))


def message(path):
    with pytest.raises(InputError) as caught:
        read_weights(path)
    text = str(caught.value)
    assert str(path) in text and len(text.splitlines()) == 1
    assert "weights_only" not in text  # torch would advise to load the file without its guard
    return text


class Probe:
    """Creates a file when it is unpickled by a careless reader."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("where", ["alone", "beside tensors", "inside state_dict"])
@pytest.mark.parametrize("save", ["torch.save", "old torch.save", "pickle", "archive", "archive of junk"])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(save, where, tmp_path):
    content = probe = Probe(tmp_path / "ran")
    if where != "alone":
        content = {"a": torch.ones(2), "b": probe}
    if where == "inside state_dict":
        content = {"state_dict": content}
    path = tmp_path / "evil.pt"
    if save == "torch.save":
        torch.save(content, path)
    elif save == "old torch.save":
        save_old(content, path)
    elif save == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif save == "archive":
        save_archive(openai_weights(), tmp_path / "good.pt")
        rewrite(
            tmp_path / "good.pt",
            path,
            lambda name: name.endswith("/data.pkl"),
            pickle.dumps(probe, protocol=2),
        )
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("evil/constants.pkl", pickle.dumps(probe))
            archive.writestr("evil/data.pkl", pickle.dumps(content))
    message(path)
    assert not (tmp_path / "ran").exists()


def test_the_probe_of_these_tests_would_run(tmp_path):
    pickle.loads(pickle.dumps(Probe(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", SAVERS)
def test_a_file_cut_off_anywhere_is_refused(name, tmp_path):
    SAVERS[name](openai_weights(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / name
    for kept in (0, 1, 7, 8, 9, len(content) // 10, len(content) // 2, len(content) - 40, len(content) - 1):
        path.write_bytes(content[:kept])
        message(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.old.pt", "a.traced.pt"])
def test_damaged_bytes_never_end_in_another_exception(name, tmp_path):
    SAVERS[name](openai_weights(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    g = torch.Generator().manual_seed(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in torch.randint(len(content), (4,), generator=g).tolist():
            damaged[place] = int(torch.randint(256, (), generator=g))
        (tmp_path / name).write_bytes(damaged)
        try:
            read_weights(tmp_path / name)
        except InputError as error:
            assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a"])
@pytest.mark.parametrize("text", ["", "hello", "version https://git-lfs.github.com/spec/v1\noid sha256:12\n"])
def test_a_text_file_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    message(tmp_path / name)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    assert "no such weights file" in message(tmp_path / "none.pt")
    assert "a folder" in message(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    assert "a folder" in message(tmp_path / "folder.safetensors")


@pytest.mark.parametrize(
    "content, named",
    [
        ([torch.ones(2)], "list"),
        (torch.ones(2), "Tensor"),
        ({"a": torch.ones(2), "epoch": 3}, "'epoch' is a int"),
        ({"a": {"b": torch.ones(2)}}, "'a' is a dict"),
        ({"state_dict": [torch.ones(2)]}, "'state_dict' is a list"),
        ({"state_dict": {"step": 3}}, "'step' is a int"),
        ({7: torch.ones(2)}, "7"),
    ],
)
def test_what_is_no_state_dict_is_named(content, named, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    assert named in message(tmp_path / "a.pt")


def test_an_archive_without_its_data_is_refused(tmp_path):
    save_archive(openai_weights(), tmp_path / "whole.pt")
    for lost in ("/data.pkl", "/data/0"):
        with (
            zipfile.ZipFile(tmp_path / "whole.pt") as old,
            zipfile.ZipFile(tmp_path / "part.pt", "w") as new,
        ):
            for name in old.namelist():
                if not name.endswith(lost):
                    new.writestr(name, old.read(name))
        message(tmp_path / "part.pt")


def test_a_renamed_file_is_refused_when_its_ending_lies(tmp_path):
    torch.save(openai_weights(), tmp_path / "a.pt")
    shutil.copy(tmp_path / "a.pt", tmp_path / "b.safetensors")
    message(tmp_path / "b.safetensors")


def test_a_training_checkpoint_of_mmengine_names_the_tool_that_strips_it(tmp_path, monkeypatch):
    module = types.ModuleType("mmengine.logging")
    history = type("HistoryBuffer", (), {"__module__": "mmengine.logging"})
    module.HistoryBuffer = history
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, module)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "message_hub": history()}, tmp_path / "epoch.pth")
    message = complaint(lambda: read_weights(tmp_path / "epoch.pth"))
    assert "publish_model.py" in message and "epoch.pth" in message
