"""How a figure changes as the events get worse: one curve for each kind of disturbance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eventfm.data.perturb import Perturbation
from eventfm.data.transforms import Geometry
from eventfm.events import Events, Sensor
from eventfm.random import Key, generator
from eventfm.registry import Registry

PERTURBATIONS = Registry(
    "perturbation",
    {
        "drop": "eventfm.data.perturb:DROP",
        "rate": "eventfm.data.perturb:RATE",
        "noise": "eventfm.data.perturb:NOISE",
        "hot_pixels": "eventfm.data.perturb:HOT_PIXELS",
        "polarity_loss": "eventfm.data.perturb:POLARITY_LOSS",
        "polarity_flip": "eventfm.data.perturb:POLARITY_FLIP",
        "gap": "eventfm.data.perturb:GAP",
        "resolution": "eventfm.data.perturb:RESOLUTION",
        "crop": "eventfm.data.perturb:CROP",
        "width": "eventfm.data.perturb:WIDTH",
    },
)
SEVERITIES = ("none", "slight", "mild", "moderate", "strong", "extreme")


@dataclass(frozen=True)
class Disturbance:
    """A perturbation at one severity: a pure function of the events, their sample and the seed.

    The same draws serve all severities, so that a curve shows what the severity does. It can be sent to workers.
    """

    perturbation: str
    severity: int
    """0 to 5; `SEVERITIES` names them. 0 gives back the events as they are."""
    seed: int = 0

    def __post_init__(self) -> None:
        self._kind.amount(self.severity)

    def __call__(self, events: Events, sample: Key) -> Events:
        """Return the disturbed `events`; `sample` is the number or name of what they are a window of."""
        if self.severity == 0:
            return events
        rng = generator(self.seed, "perturbation", self.perturbation, sample)
        return self._kind.apply(events, self.amount, rng)

    def geometry(self, sensor: Sensor) -> Geometry | None:
        """Return how the pixels of `sensor` are moved, for maps of labels to be moved alike; None: they are not."""
        return None if self._kind.moves is None or not self.severity else self._kind.moves(sensor, self.amount)

    @property
    def amount(self) -> float:
        """How much, in the unit of the perturbation."""
        return self._kind.amount(self.severity)

    @property
    def _kind(self) -> Perturbation:
        found = PERTURBATIONS.get(self.perturbation)
        assert isinstance(found, Perturbation)
        return found


Score = Callable[[Disturbance], Mapping[str, float]]
"""Figures of a model by name, where each of its windows of events has gone through the disturbance first."""


def curve(
    score: Score, perturbations: Iterable[str] | None = None, severities: Iterable[int] = range(6), seed: int = 0
) -> list[dict[str, Any]]:
    """Return a row for each perturbation (all, if none is named) and severity, with the figures that `score` gives.

    A row also has `perturbation`, `severity`, `severity_name`, `amount`, `unit`, and `what` the amount is. What is
    undisturbed is scored once, and is the first row of every perturbation if severity 0 is among `severities`.

    Raises:
        ValueError: Nothing to score, an unknown perturbation or severity, or figures with the name of another column.
    """
    names = list(PERTURBATIONS) if perturbations is None else list(dict.fromkeys(perturbations))
    plan = [Disturbance(name, severity, seed) for name in names for severity in sorted(set(severities))]
    if not plan:
        raise ValueError("expected one or more perturbations and severities to score, got none")
    undisturbed: Mapping[str, float] | None = None
    rows = []
    for disturbance in plan:
        if disturbance.severity:
            figures = score(disturbance)
        else:
            undisturbed = figures = score(disturbance) if undisturbed is None else undisturbed
        rows.append(_row(disturbance, figures))
    return rows


def _row(disturbance: Disturbance, figures: Mapping[str, float]) -> dict[str, Any]:
    kind = PERTURBATIONS.get(disturbance.perturbation)
    row = {
        "perturbation": disturbance.perturbation,
        "severity": disturbance.severity,
        "severity_name": SEVERITIES[disturbance.severity],
        "amount": disturbance.amount,
        "unit": kind.unit,
        "what": kind.what,
    }
    if clash := row.keys() & figures.keys():
        raise ValueError(f"expected figures with names of their own, got {sorted(clash)}, which say what was done")
    return {**row, **figures}
