"""What the doctor says of a recording: findings, each with a number, and what could not be looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from eventfm.events import Events


class Finding(NamedTuple):
    """One fault of a recording."""

    name: str
    number: float
    """How large the fault is, in the unit that `message` names."""
    reported_from: float
    """The number from which this fault is reported; for a share or rate that is too low, up to which."""
    message: str
    advice: str
    """What to do about it."""


@dataclass
class Changes:
    """What was changed in a repaired copy, in events where nothing else is said."""

    wraps_unrolled: int = 0
    """Wraps of the clock."""
    outside_dropped: int = 0
    hot_pixels: int = 0
    """Pixels."""
    hot_dropped: int = 0
    moved: int = 0
    """Events that stand elsewhere now that time is in order."""
    repeats_dropped: int = 0
    num_events: int = 0
    """Events that are left."""


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with one recording."""

    path: str
    format: str
    num_events: int
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...] = ()
    """What was not looked at, and why."""
    hot_pixels: tuple[tuple[int, int], ...] = ()
    """(x, y) of each hot pixel."""
    fixed: str | None = None
    """Path of the repaired copy, if one was asked for."""
    changes: Changes | None = None
    """What was changed in it."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        """Return all of it as lines for people."""
        lines = [f"{self.path}: {self.format or 'unreadable'}, {self.num_events:,} events"]
        for finding in self.findings:
            lines += [f"  {finding.name}: {finding.message}", f"    -> {finding.advice}"]
        lines += [] if self.findings else ["  nothing found"]
        lines += [f"  not looked at: {note}" for note in self.unchecked]
        if self.changes is not None:
            changed = [f"{name.replace('_', ' ')} {count:,}" for name, count in asdict(self.changes).items()]
            lines.append(f"  wrote {self.fixed}: {', '.join(changed)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {**asdict(self), "findings": [finding._asdict() for finding in self.findings], "clean": self.clean}


class Piece(NamedTuple):
    """Events `start` onwards of a recording, as they stand in the file."""

    events: Events
    t: Any
    """(N,) int64 microseconds, the wraps of the clock unrolled."""
    inside: Any
    """(N,) bool: which events lie on the sensor."""


class Check(Protocol):
    """One idea of what may be wrong. It sees every piece once, in file order, and keeps bounded state."""

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        ...

    def findings(self) -> list[Finding]:
        """Return what is wrong with all events so far."""
        ...

    def unchecked(self) -> list[str]:
        """Return what could not be looked at, and why."""
        ...
