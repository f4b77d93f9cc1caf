"""Prophesee RAW: words of EVT2, EVT2.1 or EVT3 behind a text header, or alone where a hint says which they are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.blocks import Block, BlockRecording, cached_index, recording_of, stretches
from eventfm.io.columns import Columns
from eventfm.io.contract import FormatError, Reader, choose_sensor, report_cut
from eventfm.io.gathered import Gathered
from eventfm.io.prophesee_header import LEGACY, raw_kind, read_header
from eventfm.io.recording import ArrayRecording
from eventfm.io.trigger_track import Rows, TriggerTrack, triggers_of
from eventfm.io.word_columns import nothing_seen
from eventfm.protocols import Track

_BLOCK_BYTES = 1 << 18
_INDEX_VERSION = 2
_NUM_FACTS = 4
_KEYS = {"evt", "format", "system_id", "plugin_name"} | {f"{of}integrator_name" for of in ("", "plugin_", "camera_")}


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
    if not keys & _KEYS:
        raise FormatError("its header has none of the keys evt, format and system_ID")
    return 1.0


def open_file(
    path: Path, sensor: Sensor | None, on_error: OnError, format: str = ""
) -> BlockRecording | ArrayRecording:
    """Return the recording, with a track `triggers` of (edge, channel) if any.

    `format` is that of words alone, or of such whose header is wrong about them; `evt21_legacy` is EVT2.1 with the
    halves of its words the other way round.

    Each block is decoded when a slice touches it. A file whose time goes backwards is refused with how often it does,
    or held in memory and mended.

    Raises:
        FormatError: The header does not say what the words are, or the file ends in the middle of a word.
        EventError: Times go backwards.
    """
    header = read_header(path)
    kind = raw_kind(header, path, format, sensor)
    name = f"{kind.format}{LEGACY}" if kind.swapped else kind.format
    width = _module(name).WORD.itemsize
    rest = (path.stat().st_size - header.end) % width
    if rest:
        report_cut(f"{path}: cut off in the middle of a word ({rest} of {width} bytes at the end)", on_error)
    gathered = Gathered((path.stat().st_size - header.end) // width)
    scan = partial(_scan, name=name, start=header.end, gathered=gathered)
    blocks = cached_index(path, f"raw {name}", _INDEX_VERSION, scan)
    right, bottom, backwards = _facts(blocks)
    corner = ([right], [bottom]) if blocks else ([], [])
    size = choose_sensor(np.array(corner[0]), np.array(corner[1]), kind.sensor)
    decode = partial(_decode_block, name=name)
    tracks: dict[str, Track] = {}
    if any(block.state[3] for block in blocks):
        triggers = partial(_block_triggers, path=path, name=name)
        tracks["triggers"] = TriggerTrack(str(path), blocks, 3, triggers, on_error)
    return recording_of(path, "raw", size, blocks, decode, on_error, backwards, tracks, gathered)


def _decode_block(data: NDArray[np.uint8], state: tuple[int, ...], name: str) -> Columns:
    columns, _ = _module(name).decode(_words(data, name), state[_NUM_FACTS:])
    return Columns(*columns)


def _block_triggers(block: Block, path: Path, name: str) -> Rows:
    data = np.fromfile(path, np.uint8, block.size, offset=block.offset)
    return triggers_of(_words(data, name), block.state[_NUM_FACTS:], _module(name))


def _scan(path: Path, name: str, start: int, gathered: Gathered) -> list[Block]:
    """Return the blocks of a file, whose events go to `gathered` as well.

    Before the decoder's own state, that of a block has its right- and bottommost pixel, how often time goes
    backwards from the end of the block before up to its own end, and how many triggers there are.
    """
    module = _module(name)
    width = module.WORD.itemsize
    stop = start + (path.stat().st_size - start) // width * width
    blocks: list[Block] = []
    state: tuple[int, ...] = ()
    num_events, seen = 0, nothing_seen()
    for offset, data in stretches(path, start, stop, _BLOCK_BYTES):
        words, size = _words(data, name), len(data)
        seen = nothing_seen(int(seen[-1]))
        found, after = module.decode_into(words, state, gathered.room(len(words) * module.MOST), seen)
        gathered.took(found)
        right, bottom, backwards, triggers, earliest, latest, _ = seen.tolist()
        if found:
            facts = (right, bottom, backwards, triggers)
            blocks.append(Block(offset, size, num_events, found, earliest, latest, (*facts, *state)))
            num_events += found
        elif triggers:
            blocks.append(Block(offset, size, num_events, 0, 0, -1, (0, 0, 0, triggers, *state)))
        state = after
    return blocks


def _words(data: NDArray[np.uint8], name: str) -> NDArray[Any]:
    """Return the whole words of `data`."""
    module = _module(name)
    words = data[: len(data) // module.WORD.itemsize * module.WORD.itemsize].view(module.WORD)
    return np.asarray(module.halves_swapped(words)) if name.endswith(LEGACY) else words


def _module(name: str) -> ModuleType:
    from eventfm.io import evt2, evt3, evt21  # compiled, and needed by few of those who ask what a file is

    return {"evt2": evt2, "evt21": evt21, "evt3": evt3}[name.removesuffix(LEGACY)]


def _facts(blocks: list[Block]) -> tuple[int, int, int]:
    """Return right- and bottommost pixel of all, and how often time goes backwards."""
    rights, bottoms, backwards = zip(*(block.state[:3] for block in blocks), strict=True) if blocks else ((0,),) * 3
    return max(rights), max(bottoms), sum(backwards)


READER = Reader(sniff, open_file)


def _never(path: Path) -> float:
    raise FormatError("words without a header are read only when format= says so")


EVT2, EVT21, EVT21_LEGACY, EVT3 = (
    Reader(_never, partial(open_file, format=name)) for name in ("evt2", "evt21", f"evt21{LEGACY}", "evt3")
)
"""Of words alone, and of such whose header is wrong."""
