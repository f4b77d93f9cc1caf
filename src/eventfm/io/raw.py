"""Prophesee RAW: words of EVT2, EVT2.1 or EVT3 behind a text header, or alone where a hint says which they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io import evt2, evt3, evt21
from eventfm.io.blocks import Block, BlockRecording, cached_index, recording_of
from eventfm.io.columns import Columns
from eventfm.io.contract import FormatError, Reader, choose_sensor, report_cut
from eventfm.io.prophesee_header import RawKind, raw_kind, read_header
from eventfm.io.recording import ArrayRecording

_BLOCK_BYTES = 1 << 18
_INDEX_VERSION = 1
_NUM_FACTS = 3


class _Words(NamedTuple):
    """How words of one format are read."""

    dtype: str
    decode: Callable[[NDArray[Any], tuple[int, ...]], tuple[Any, tuple[int, ...]]]


def _decode_swapped(words: NDArray[np.uint64], state: tuple[int, ...]) -> tuple[Columns, tuple[int, ...]]:
    return evt21.decode(evt21.halves_swapped(words), state)


_WORDS = {
    "evt2": _Words("<u4", evt2.decode),
    "evt21": _Words("<u8", evt21.decode),
    "evt21 legacy": _Words("<u8", _decode_swapped),
    "evt3": _Words("<u2", evt3.decode),
}


def sniff(path: Path) -> float:
    """Return 1 if the file begins with a header that RAW files have.

    Raises:
        FormatError: It does not.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if file.read(1) != b"%":
            raise FormatError(
                "it has no header of lines that begin with %; words alone need format='evt2', 'evt21', 'evt3'"
            )
    keys = read_header(path).values.keys()
    if not keys & {"evt", "format", "system_id", "integrator_name", "plugin_name", "camera_integrator_name"}:
        raise FormatError("its header has none of the keys evt, format and system_ID")
    return 1.0


def open_file(
    path: Path, sensor: Sensor | None, on_error: OnError, format: str = ""
) -> BlockRecording | ArrayRecording:
    """Return the recording; `format` is that of words without a header.

    Each block is decoded when a slice touches it. A file whose time goes backwards is refused with how often it does,
    or held in memory and mended.

    Raises:
        FormatError: The header does not say what the words are, or the file ends in the middle of a word.
        EventError: Times go backwards.
    """
    header = read_header(path)
    kind = raw_kind(header, path) if not format or header.values else RawKind(format, None)
    name = f"{kind.format} legacy" if kind.swapped else kind.format
    width = np.dtype(_WORDS[name].dtype).itemsize
    rest = (path.stat().st_size - header.end) % width
    if rest:
        report_cut(f"{path}: cut off in the middle of a word ({rest} of {width} bytes at the end)", on_error)
    blocks = cached_index(path, f"raw {name}", _INDEX_VERSION, partial(_scan, name=name, start=header.end))
    right, bottom, backwards = _facts(blocks)
    corner = ([right], [bottom]) if blocks else ([], [])
    size = choose_sensor(np.array(corner[0]), np.array(corner[1]), sensor, kind.sensor)
    decode = partial(_decode_block, name=name)
    return recording_of(path, "raw", size, blocks, decode, on_error, backwards)


def _decode_block(data: NDArray[np.uint8], state: tuple[int, ...], name: str) -> Columns:
    words = _WORDS[name]
    whole = len(data) // np.dtype(words.dtype).itemsize * np.dtype(words.dtype).itemsize
    columns, _ = words.decode(data[:whole].view(words.dtype), state[_NUM_FACTS:])
    return Columns(*columns)


def _scan(path: Path, name: str, start: int) -> list[Block]:
    """Return the blocks of a file.

    Before the decoder's own state, that of a block has its right- and bottommost pixel, and how often time goes
    backwards from the end of the block before up to its own end.
    """
    words = _WORDS[name]
    width = np.dtype(words.dtype).itemsize
    stop = start + (path.stat().st_size - start) // width * width
    blocks: list[Block] = []
    state: tuple[int, ...] = ()
    num_events, last = 0, None
    for offset in range(start, stop, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, stop - offset)
        columns, after = words.decode(np.fromfile(path, words.dtype, size // width, offset=offset), state)
        x, y, t, _ = columns
        if len(t):
            backwards = int((np.diff(t) < 0).sum()) + (last is not None and int(t[0]) < last)
            facts = (int(x.max()), int(y.max()), backwards)
            blocks.append(Block(offset, size, num_events, len(t), int(t.min()), int(t.max()), (*facts, *state)))
            num_events, last = num_events + len(t), int(t[-1])
        state = after
    return blocks


def _facts(blocks: list[Block]) -> tuple[int, int, int]:
    rights, bottoms, backwards = (
        zip(*(block.state[:_NUM_FACTS] for block in blocks), strict=True) if blocks else ((0,),) * 3
    )
    return max(rights), max(bottoms), sum(backwards)


READER = Reader(sniff, open_file)


def _never(path: Path) -> float:
    raise FormatError("words without a header are read only when format= says so")


EVT2, EVT21, EVT3 = (Reader(_never, partial(open_file, format=name)) for name in ("evt2", "evt21", "evt3"))
