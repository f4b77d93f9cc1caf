"""Small whole recordings of each format in `READERS`, to be damaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fuzzed.makers import MAKERS

_MOST = 40_000
"""Bytes of a real file; of a longer one whole words from its beginning on, where it may be cut."""
_REAL = {
    "raw": ("gen3_evt2.raw", "gen4_evt3.raw"),
    "evt2": ("genx320_evt2_headerless.bin", "evt2_time_goes_back.bin"),
    "dat": ("ncars_2.dat", "ncars.dat"),
    "aedat2": ("dvs128_aedat2.aedat", "davis240_imu_aedat2.aedat"),
    "aedat4": ("empty.aedat4",),
    "es": ("poker.es", "dvs.es"),
    "atis": ("nmnist.bin",),
    "evlib": ("generic.hdf5",),
}
_CUT = ("raw", "evt2", "aedat2", "es")


def lay_out(case: str, folder: Path) -> list[Path]:
    """Return the files and folders to damage for a format, made in `folder` if it does not exist."""
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        MAKERS[case](making)
        _add_real(case, making)
        making.rename(folder)
    return sorted(folder.iterdir())


def header_of(data: bytes) -> int:
    """Return how many bytes a file has before what it holds, as far as its first ones tell; 0 where they do not."""
    if data.startswith(aedat_magic := b"#!AER-DAT4.0\r\n"):
        return len(aedat_magic) + 4 + int.from_bytes(data[len(aedat_magic) :][:4], "little")
    for end in (b"#End Of ASCII Header\r\n", b"#!END-HEADER\r\n", b"% end\n"):
        if data[:1] in b"#%" and end in data[:2000]:
            return data.index(end) + len(end)
    if data.startswith(b"%"):
        lines = data.split(b"\n")
        return sum(len(line) + 1 for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != b"%")])
    sizes = {b"Event Stream": 20, b"\x93NUMPY": 128, b"PK": 200, b"MATLAB": 128, b"#ROSBAG": 4117, b"SQLite": 100}
    sizes |= {b"\x89HDF": 800, b"\x89MCAP": 100}
    return next((size for magic, size in sizes.items() if data.startswith(magic)), 0)


def _add_real(case: str, folder: Path) -> None:
    data = os.environ.get("EVENTFM_TEST_DATA")
    for name in _REAL.get(case, ()) if data else ():
        content = (Path(data or "") / "formats" / name).read_bytes()
        if len(content) > _MOST and case in _CUT:
            header = header_of(content)
            content = content[: header + (_MOST - header) // 8 * 8]
        (folder / f"real_{name}").write_bytes(content)
