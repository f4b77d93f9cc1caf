"""Time and memory of one training step of EventPretrain's stage 1, beside the matrix products of the same machine.

Batch 16, 224 x 224, 5 bins, masks of one half: forward, backward and AdamW. Each backbone runs in a process of its own,
so that its peak memory is its own. The share says how much of the machine's matrix-product rate (one large product, in
the same process, between the steps) the step's own products keep busy. On CUDA: bf16, compiled block by block.

    python benchmarks/step_time.py [backbone ...]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

BATCH, SIDE, CHANNELS = 16, 224, 5
BACKBONES = ("vit_small", "convvit_small", "swin_tiny")
OFFICIAL = {"vit_small": (4.3, 2.9), "convvit_small": (6.4, 4.2)}
"""Seconds (the better of its runs) and GB of the official code on two cores of this kind of machine, fp32."""
NUM_STEPS = 5
PRODUCT = {"cpu": 2048, "cuda": 8192}


def measure(backbone: str) -> dict[str, float | str]:
    """Return the figures of one backbone, measured in this process."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from eventfm.engine.console import memory_gib
    from eventfm.engine.optim import build_optimizer
    from eventfm.methods import build_method
    from eventfm.protocols import Progress

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(2)
    patch = 32 if backbone.startswith("swin") else 16
    method = {"name": "difference", "backbone": {"name": backbone, "arguments": {"patch_size": patch}}}
    objective = build_method(method, CHANNELS, (SIDE, SIDE)).to(device).train()
    optimizer = build_optimizer(objective, objective.parameter_rules(), 0.05, (0.9, 0.95))
    batch = {
        "input": torch.randn(BATCH, CHANNELS, SIDE, SIDE, device=device),
        "target": torch.randn(BATCH, 1, SIDE, SIDE, device=device),
        "key": torch.arange(BATCH, device=device),
    }

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss = objective(batch, Progress(0, 1))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    # Only depthwise convolutions are convolutions here: few sums, and the counter takes them for full ones.
    uncounted = {op: lambda *_, **__: 0 for op in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)}
    with FlopCounterMode(display=False, custom_mapping=uncounted) as counter:
        step()
    operations = counter.get_total_flops()
    if device.type == "cuda":
        for unit in objective.shard_units():
            unit.compile()
    for _ in range(2):
        step()
    steps, rates = [], []
    for _ in range(NUM_STEPS):
        steps.append(_timed(step, device))
        rates.append(_product_rate(device))
    seconds, peak = median(steps), max(rates)
    return {
        "backbone": backbone,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu, 2 threads, fp32",
        "seconds": seconds,
        "fastest": min(steps),
        "memory_gib": memory_gib(device),
        "gflop": operations / 1e9,
        "product_gflop_s": peak / 1e9,
        "share": operations / seconds / peak,
    }


def _timed(action, device) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _product_rate(device) -> float:
    """Return the operations per second of one large matrix product, the best of three."""
    import torch

    side = PRODUCT[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return max(2 * side**3 / _timed(lambda: a @ b, device) for _ in range(3))


def main() -> None:
    """Measure each backbone in a process of its own and print a line for it."""
    for backbone in sys.argv[1:] or BACKBONES:
        code = f"import json, step_time; print(json.dumps(step_time.measure({backbone!r})))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        row = json.loads(done.stdout.splitlines()[-1])
        line = (
            f"{backbone:14} {row['seconds']:.3f} s (fastest {row['fastest']:.3f}), {row['memory_gib']:.2f} GiB, "
            f"{row['gflop']:.0f} GFLOP at {row['share']:.0%} of the matrix product's "
            f"{row['product_gflop_s']:.0f} GFLOP/s  [{row['device']}]"
        )
        if backbone in OFFICIAL and row["device"].startswith("cpu"):
            seconds, gigabytes = OFFICIAL[backbone]
            line += f"; official code {seconds} s, {gigabytes} GB: {seconds / row['seconds']:.2f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
