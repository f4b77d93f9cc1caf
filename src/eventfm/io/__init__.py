"""Files to events and tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eventfm.io.atomic import WriteError
    from eventfm.io.contract import FormatError, Reader, UnknownFormatError
    from eventfm.io.iterating import iterate
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
    "iterate",
    "list_recordings",
    "open_recording",
    "save_recording",
    "save_recordings",
    "summarise",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "atomic": ["WriteError"],
        "contract": ["FormatError", "Reader", "UnknownFormatError"],
        "iterating": ["iterate"],
        "opening": ["READERS", "detect_format", "open_recording"],
        "recording": ["ArrayRecording", "ArrayTrack", "PictureTrack"],
        "store": ["list_recordings", "save_recording", "save_recordings"],
        "summary": ["convert", "summarise"],
    },
)
