"""How two runs are made to give the same numbers; `docs/reproducibility.md` says how far that goes."""

import os

import torch


def make_repeatable(seed: int, is_deterministic: bool) -> None:
    """Draw from this seed from here on; if `is_deterministic` let PyTorch use only operations that give the
    same every time, and fail where it has none.

    On a CPU they do anyway, with one number of threads. To be called before anything is computed.
    """
    torch.manual_seed(seed)
    if not is_deterministic:
        return
    # cuBLAS reads it when it is first used; it is no setting of this program
    os.putenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False  # it may choose another kernel in every process
