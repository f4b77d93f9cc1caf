"""Which device a name means, and whether this machine has it."""

from __future__ import annotations

import torch


def find_device(name: str | torch.device) -> tuple[torch.device, str]:
    """Return the device that `name` means, `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, ..., and why it is that one.

    Raises:
        ValueError: No such kind of device, or this machine has none.
    """
    if name == "auto":
        found = torch.cuda.is_available()
        return (
            (torch.device("cuda"), "CUDA is available") if found else (torch.device("cpu"), "no CUDA device was found")
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"expected device to be auto, cpu, cuda, ..., got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device {str(name)!r} was asked for and this machine has no CUDA device; use device=cpu or auto"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {str(name)!r} was asked for and this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            f"device {str(name)!r} was asked for and this machine has no such device; use device=cpu or auto"
        )
    return device, "as given"
