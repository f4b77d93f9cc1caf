"""The loss scale of float16 runs, decided alike on every rank.

PyTorch's GradScaler looks for overflow in the gradients that a rank holds; with sharded gradients ranks would
disagree and drift apart. Here the loop's own check, which all ranks agree on, drives the scale.
"""

from __future__ import annotations

from typing import Any

GROWTH_INTERVAL = 2000
LARGEST = 2.0**24


class LossScale:
    """Halved after a step that overflowed, doubled after 2000 steps that did not; always 1 when not `enabled`."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.value = 2.0**16 if enabled else 1.0
        self._good_steps = 0

    def update(self, finite: bool) -> bool:
        """Take note of a step; return whether the scale explains that it was not finite."""
        if not self.enabled:
            return False
        if finite:
            self._good_steps += 1
            if self._good_steps == GROWTH_INTERVAL:
                self.value, self._good_steps = min(2 * self.value, LARGEST), 0
            return False
        explained = self.value > 1.0
        self.value, self._good_steps = max(self.value / 2, 1.0), 0
        return explained

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values."""
        return {"value": self.value, "good_steps": self._good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint's values."""
        if self.enabled:
            self.value, self._good_steps = float(state["value"]), int(state["good_steps"])
