"""Chunks that would unpack to less than HDF5 takes them for are refused; all others come as h5py has them."""

import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest

from eventfm.io import FormatError
from eventfm.io.hdf5_chunks import SoundDataset, _unpacked_size

FILTERS = {
    "none": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "blosc": hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    "zstd in blosc": hdf5plugin.Blosc(cname="zstd"),
    "zstd": hdf5plugin.Zstd(),
}
LINE = np.arange(1000, dtype=np.uint16) // 3
TABLE = np.random.default_rng(0).integers(0, 9, (50, 7), dtype=np.int32)
WANTED = [
    (), slice(None), slice(10, 700), slice(5, 5), slice(990, 4000), slice(None, None, 7), slice(900, 100, -1), 0, 999,
    -1, np.int64(500), (slice(3, 9),), [3, 800],
]  # fmt: skip


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        yield opened


@pytest.mark.parametrize("name", FILTERS)
def test_what_is_whole_comes_as_it_is(file, name):
    line = file.create_dataset("line", data=LINE, chunks=(64,), **FILTERS[name])
    table = file.create_dataset("table", data=TABLE, chunks=(8, 3), **FILTERS[name])
    for wanted in WANTED:
        if wanted != slice(900, 100, -1):  # which HDF5 cannot do
            np.testing.assert_array_equal(SoundDataset(line)[wanted], line[wanted])
    for wanted in ((), 7, slice(3, 20), (slice(3, 20), 5), (..., slice(2, 6))):
        np.testing.assert_array_equal(SoundDataset(table)[wanted], table[wanted])
    assert isinstance(SoundDataset(line), h5py.Dataset)


@pytest.mark.parametrize("name", ["none", "gzip", "blosc"])
def test_what_was_never_written_is_zero_and_what_is_single_or_empty_is_read(file, name):
    sparse = file.create_dataset("sparse", (1000,), np.uint8, chunks=(64,), **FILTERS[name])
    sparse[500:510] = 3
    assert SoundDataset(sparse)[:].sum() == 30
    none = file.create_dataset("none", (0,), np.uint8, maxshape=(None,), chunks=(4,), **FILTERS[name])
    assert SoundDataset(none)[:].shape == (0,)
    assert SoundDataset(file.create_dataset("one", data=7))[()] == 7


def test_a_chunk_that_is_stored_unpacked_among_others_is_read(file):
    line = file.create_dataset("line", data=LINE, chunks=(500,), **FILTERS["blosc"])
    line.id.write_direct_chunk((500,), LINE[500:].tobytes(), 1)
    np.testing.assert_array_equal(SoundDataset(line)[:], LINE)
    line.id.write_direct_chunk((500,), LINE[500:900].tobytes(), 1)
    with pytest.raises(FormatError, match=r"a.h5: the chunk at \(500,\) of /line is damaged"):
        SoundDataset(line)[600:700]


@pytest.mark.parametrize(("at", "value"), [(4, 0), (4, 64), (4, 1 << 30), (8, 0), (8, 1 << 20), (12, 3), (12, 1 << 31)])
def test_sizes_that_blosc_would_believe(file, at, value):
    line = file.create_dataset("line", data=LINE, chunks=(500,), **FILTERS["blosc"])
    _, chunk = line.id.read_direct_chunk((500,))
    line.id.write_direct_chunk((500,), chunk[:at] + value.to_bytes(4, "little") + chunk[at + 4 :])
    sound = SoundDataset(line)
    np.testing.assert_array_equal(sound[:500], LINE[:500])
    with pytest.raises(FormatError, match="is damaged"):
        sound[499:501]
    line.id.write_direct_chunk((500,), chunk[:10])
    with pytest.raises(FormatError, match="is damaged"):
        SoundDataset(line)[:]


def test_chunks_that_unpack_to_less_than_the_header_claims(file):
    line = file.create_dataset("line", data=LINE, chunks=(500,), compression="gzip")
    line.id.write_direct_chunk((0,), zlib.compress(LINE[:100].tobytes()))
    with pytest.raises(FormatError, match="is damaged"):
        SoundDataset(line)[700:]
    line.id.write_direct_chunk((0,), b"no such stream")
    with pytest.raises(FormatError, match="is damaged"):
        SoundDataset(line)[700:]


def test_settings_that_a_filter_reads_without_asking_whether_they_are_there():
    chunk = bytes([2, 1, 0, 2, *(400).to_bytes(4, "little"), *(400).to_bytes(4, "little"), *(20).to_bytes(4, "little")])
    chunk += bytes(4)
    assert _unpacked_size(chunk, 32001, (2, 2, 2, 400), 400) == 400
    assert _unpacked_size(chunk, 32001, (), 400) == -1
    assert _unpacked_size(b"", 32000, (4, 261, 400), 400) == 400
    assert _unpacked_size(b"", 32000, (4, 261), 400) == -1
