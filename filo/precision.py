"""In which number format the frozen towers compute, and whether a machine is made for it."""

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def is_native(precision: str, device: torch.device) -> bool:
    """Whether the device computes in this format by itself instead of imitating it slowly."""
    if precision == "fp32":
        return True
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        if not torch.backends.mkldnn.is_available():  # such a build does not know these questions either
            return False
        known = torch.ops.mkldnn
        return bool(
            known._is_mkldnn_bf16_supported() if precision == "bf16" else known._is_mkldnn_fp16_supported()
        )
    return precision == "fp16"
