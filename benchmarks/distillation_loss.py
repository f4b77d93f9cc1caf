"""Memory and time of the structure terms beside a plain implementation, forward and backward.

    python benchmarks/distillation_loss.py

Three samples of 4,800 tokens of 384 numbers (1280 x 960 pixels in patches of 16), float32, the released form with its
weights; all patches active, and 30 % of them. The plain one multiplies what is not active by 0, keeps the three
matrices of all pairs and leaves the gradient to autograd. The two take turns, each time in a process of its own, on two
threads or on CUDA, and the fastest step of each counts. Memory is what the peak rises by, the gradient included. The
two losses and gradients have to agree.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NUM_SAMPLES, NUM_TOKENS, DIM = 3, 4800, 384
WEIGHTS = (1.0, 10.0, 4.0)
SHARES = {1.0: 1.2, 0.3: 0.3}
"""Active patches, and the most time that ours may take beside the plain one's."""
MEMORY = 0.1
"""The most memory that ours may take beside the plain one's."""
TURNS, STEPS = 3, 2


def plain_terms(student, teacher, active):
    """Return the three terms of the released form, all pairs at once."""
    from torch.nn import functional

    mask = active[:, :, None].to(student.dtype)
    student, teacher = student * mask, teacher * mask
    token = (student - teacher).abs().mean()
    own, taught = functional.normalize(student, dim=2), functional.normalize(teacher, dim=2)
    among_taught = (taught @ taught.mT).clamp(min=0)
    related = (among_taught > 0.1).to(student.dtype)
    among_taught = among_taught * related
    among_own = (own @ own.mT).clamp(min=0) * related
    across = (own @ taught.mT).clamp(min=0) * related
    return token, functional.mse_loss(among_own, among_taught), functional.mse_loss(across, among_taught)


def chunked_terms(student, teacher, active):
    """Return the same three terms by eventfm."""
    from eventfm.methods.structure_loss import structure_terms

    return structure_terms(student, teacher, active, "released")


CONTESTANTS = {"plain": plain_terms, "eventfm": chunked_terms}


def measure(name: str, share: float) -> dict[str, Any]:
    """Return the memory of a step in GiB, the seconds of some more, the loss and the norm of its gradient."""
    import torch

    from eventfm.engine.console import memory_gib

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(2)
    terms = CONTESTANTS[name]

    def step(student, teacher, active) -> tuple[float, Any]:
        loss = sum(weight * term for weight, term in zip(WEIGHTS, terms(student, teacher, active), strict=True))
        (gradient,) = torch.autograd.grad(loss, student)
        return loss.item(), gradient

    for num_tokens in (64, NUM_TOKENS):  # the small ones load what is loaded once
        inputs = _inputs(num_tokens, share, device)
        before = memory_gib(device)
        loss, gradient = step(*inputs)
    memory = memory_gib(device) - before
    norm = gradient.norm().item()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step(*inputs)
        seconds.append(time.perf_counter() - start)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu, 2 threads"
    return {"memory": memory, "seconds": seconds, "loss": loss, "norm": norm, "where": where}


def _inputs(num_tokens: int, share: float, device) -> tuple[Any, Any, Any]:
    """Return student and teacher tokens in eight groups, and which are active."""
    import torch

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(8, DIM, generator=generator)
    shape = NUM_SAMPLES, num_tokens, DIM
    teacher = centres[torch.arange(num_tokens) % 8] + 0.5 * torch.randn(shape, generator=generator)
    student = 0.6 * teacher + 0.4 * torch.randn(shape, generator=generator)
    active = torch.rand(shape[:2], generator=generator) < share
    return student.to(device).requires_grad_(), teacher.to(device), active.to(device)


def in_turns(share: float) -> dict[str, list[dict[str, Any]]]:
    """Return what each contestant measured in each of its processes."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for _ in range(TURNS):
        for name, found in rows.items():
            code = f"import json, distillation_loss as b; print(json.dumps(b.measure({name!r}, {share})))"
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            found.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def main() -> None:
    """Print a line for each share of active patches."""
    for share, target in SHARES.items():
        rows = in_turns(share)
        for quantity in ("loss", "norm"):
            plain, ours = (rows[name][0][quantity] for name in CONTESTANTS)
            if abs(ours - plain) > 1e-4 * abs(plain):
                raise SystemExit(f"the two differ in {quantity}: {plain} and {ours}")
        seconds = [min(s for row in found for s in row["seconds"]) for found in rows.values()]
        memory = [max(row["memory"] for row in found) for found in rows.values()]
        for name, taken, held in zip(CONTESTANTS, seconds, memory, strict=True):
            print(f"{share:4.0%} active, {name:8} {taken:6.2f} s {held:6.3f} GiB  [{rows[name][0]['where']}]")
        print(
            f"ratios: time {seconds[1] / seconds[0]:.2f} (target {target}), "
            f"memory {memory[1] / memory[0]:.3f} (target {MEMORY})"
        )


if __name__ == "__main__":
    main()
