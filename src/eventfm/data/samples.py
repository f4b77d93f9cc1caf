"""The samples of a run, and what is to be remembered of them."""

from __future__ import annotations

from dataclasses import dataclass

from eventfm.data.curation import Curated
from eventfm.data.loader import SampleSet
from eventfm.data.windows import WindowConfig


@dataclass(frozen=True)
class Samples:
    """The samples of a run."""

    training: SampleSet
    held_out: SampleSet | None
    target: str
    window: WindowConfig
    """How a recording without frames is to be cut for this encoder: windows between frames become windows by time, of
    their median length; of animated pictures, as long as the clips."""
    identity: tuple[str, ...]
    """Every recording or picture that training reads, with a hash of its content; of EF-ImageNet, with a hash of the
    names and sizes of its files; of stored volumes, every sequence with such a hash."""
    coding: str = "none"
    """What was done to stored inputs, beyond what the representation says."""
    curated: Curated | None = None
    """What `data.curate` kept and left out, where it was asked for."""

    @property
    def problems(self) -> dict[str, str]:
        """What could not be read so far and was passed over, and why, by name."""
        return {**self.training.problems, **(self.held_out.problems if self.held_out else {})}
