"""Where and how precisely numbers are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from nmt.errors import UserError
from nmt.recipe import Precision


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else mps, else cpu. Raises UserError where the device isn't there."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a device that can't give a number back is none
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the device {name!r} can't be used ({reason})", "use auto or cpu") from error
    return device


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The type that products are computed in, or None for fp32 throughout. Raises UserError for what can't be had."""
    if precision == "auto":
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if supported else None
    if precision == "fp16" and device.type != "cuda":
        raise UserError("train.precision: fp16 needs a CUDA GPU", "use auto, fp32 or bf16")
    if precision == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise UserError("train.precision: this processor has no bf16 instructions", "use auto or fp32")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Computing products in `dtype`, or nothing special for None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
