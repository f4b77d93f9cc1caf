"""A whole file as arrays: by eventfm, and by other packages where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Columns = tuple[NDArray[Any], ...]
OURS = "eventfm"


class Decoder(NamedTuple):
    """How a package reads a file: `load` returns the events in its own form, `columns` returns x, y, t, p of that."""

    module: str
    load: Callable[[Path], Any]
    columns: Callable[[Any], Columns]

    @property
    def is_installed(self) -> bool:
        """Whether the package is there."""
        return find_spec(self.module) is not None


def _fields(x: str = "x", y: str = "y", t: str = "t", p: str = "p") -> Callable[[Any], Columns]:
    return lambda events: tuple(events[name] for name in (x, y, t, p))


def _eventfm(path: Path) -> Any:
    from eventfm.io import open_recording

    recording = open_recording(path)
    return recording.events_by_index(0, recording.num_events)


def _evt3(path: Path) -> Any:
    import evt3

    return evt3.decode_file(str(path))


def _aedat(path: Path) -> Any:
    import aedat

    return np.concatenate([packet["events"] for packet in aedat.Decoder(str(path)) if "events" in packet])


def _dv_processing(path: Path) -> Any:
    import dv_processing

    recording = dv_processing.io.MonoCameraRecording(str(path))
    parts = []
    while (batch := recording.getNextEventBatch()) is not None:
        parts.append(batch.numpy())
    return np.concatenate(parts)


def _event_stream(path: Path) -> Any:
    import event_stream

    with event_stream.Decoder(str(path)) as decoder:
        return np.concatenate(list(decoder))


def _faery(path: Path) -> Any:
    import faery

    return faery.events_stream_from_file(path).to_array()


def _expelliarmus(encoding: str) -> Callable[[Path], Any]:
    def load(path: Path) -> Any:
        from expelliarmus import Wizard

        return Wizard(encoding=encoding).read(path)

    return load


def _from_below(height: int = 480) -> Callable[[Any], Columns]:
    """Return columns of events whose rows are counted from below."""
    return lambda events: (events["x"], height - 1 - events["y"].astype(np.int64), events["t"], events["p"])


_OURS = Decoder("eventfm", _eventfm, lambda events: (events.x, events.y, events.t, events.p))
_FAERY = Decoder("faery", _faery, _fields())
_EVT3 = Decoder("evt3", _evt3, lambda events: (events.x, events.y, events.timestamp, events.polarity))
DECODERS: dict[str, dict[str, Decoder]] = {
    "EVT2": {"expelliarmus": Decoder("expelliarmus", _expelliarmus("evt2"), _fields()), "faery": _FAERY},
    "EVT3": {"evt3": _EVT3, "faery": _FAERY},
    "EVT3 vectors": {"evt3": _EVT3, "faery": _FAERY},
    "DAT": {"expelliarmus": Decoder("expelliarmus", _expelliarmus("dat"), _fields()), "faery": _FAERY},
    "AEDAT4": {
        "aedat": Decoder("aedat", _aedat, _fields()),
        "dv-processing": Decoder("dv_processing", _dv_processing, _fields(t="timestamp", p="polarity")),
        "faery": _FAERY,
    },
    "ES": {"event_stream": Decoder("event_stream", _event_stream, _from_below()), "faery": _FAERY},
}
for _decoders in DECODERS.values():
    _decoders[OURS] = _OURS
