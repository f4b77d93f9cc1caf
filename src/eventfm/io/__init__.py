"""Files to events and tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "ArrayRecording": "eventfm.io.recording",
    "ArrayTrack": "eventfm.io.recording",
    "PictureTrack": "eventfm.io.recording",
    "FormatError": "eventfm.io.contract",
    "UnknownFormatError": "eventfm.io.contract",
    "Reader": "eventfm.io.contract",
    "READERS": "eventfm.io.opening",
    "detect_format": "eventfm.io.opening",
    "open_recording": "eventfm.io.opening",
    "WriteError": "eventfm.io.atomic",
    "list_recordings": "eventfm.io.store",
    "save_recording": "eventfm.io.store",
    "save_recordings": "eventfm.io.store",
    "convert": "eventfm.io.summary",
    "summarise": "eventfm.io.summary",
}

if TYPE_CHECKING:
    from eventfm.io.atomic import WriteError
    from eventfm.io.contract import FormatError, Reader, UnknownFormatError
    from eventfm.io.opening import READERS, detect_format, open_recording
    from eventfm.io.recording import ArrayRecording, ArrayTrack, PictureTrack
    from eventfm.io.store import list_recordings, save_recording, save_recordings
    from eventfm.io.summary import convert, summarise

__all__ = [
    "READERS",
    "ArrayRecording",
    "ArrayTrack",
    "FormatError",
    "PictureTrack",
    "Reader",
    "UnknownFormatError",
    "WriteError",
    "convert",
    "detect_format",
    "list_recordings",
    "open_recording",
    "save_recording",
    "save_recordings",
    "summarise",
]


def __getattr__(name: str) -> Any:
    """Import a public name at first use, so that importing the package stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'eventfm.io' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
