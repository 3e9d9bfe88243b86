"""What --deterministic asks of PyTorch; whether a GPU then gives the same bits is seen on a GPU only."""

import json
import subprocess
import sys

import pytest
import torch

from filo.determinism import make_repeatable
from tests.commands import ROOT

SAY = (
    "import ctypes, json, torch; from filo.determinism import make_repeatable; make_repeatable(0, {});"
    "get = ctypes.CDLL(None).getenv; get.restype = ctypes.c_char_p;"
    "cudnn = torch.backends.cudnn;"
    "print(json.dumps([torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark,"
    "(get(b'CUBLAS_WORKSPACE_CONFIG') or b'').decode()]))"
)


@pytest.mark.parametrize(
    ("wanted", "found"), [(True, [True, True, False, ":4096:8"]), (False, [False] * 3 + [""])]
)
def test_the_flag_is_passed_on_to_pytorch_cudnn_and_cublas(wanted, found):
    code = [sys.executable, "-c", SAY.format(wanted)]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_gives_the_same_bits_on_a_gpu(tiny_clip):
    make_repeatable(0, True)
    try:
        layer = torch.nn.Conv2d(24, 24, 7, padding=3).cuda()
        image = torch.randn(2, 24, 37, 37, device="cuda")
        gradients = []
        for _ in range(5):
            layer.zero_grad()
            torch.nn.functional.interpolate(layer(image), 518, mode="bilinear").sin().sum().backward()
            gradients.append(layer.weight.grad.clone())
        assert all(torch.equal(gradients[0], each) for each in gradients)
    finally:
        torch.use_deterministic_algorithms(False)
