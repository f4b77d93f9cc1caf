"""How the samples of each format are made: by our writers, or by the encoders of the tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import aedat_files as aedat
import cv2
import h5py
import numpy as np
import prophesee_files as prophesee
import rosbag_files as ros
import scipy.io

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings
from eventfm.io.writers import WRITERS

PACKED, PACKED_ID = "packed.h5", "only"
"""A native store of recordings side by side, and the one in it."""
_CODINGS: dict[str, Callable[..., bytes]] = {
    "evt2": prophesee.evt2,
    "evt21": prophesee.evt21,
    "evt21_legacy": lambda rows, triggers=(): prophesee.evt21(rows, triggers, legacy=True),
    "evt3": prophesee.evt3,
}
_RAW_HEADERS = {
    "evt2": b"% format EVT2;height=30;width=40\n% end\n",
    "evt21": b"% format EVT21;height=30;width=40;endianness=little\n% end\n",
    "evt21_legacy": b"% evt 2.1\n% geometry 40x30\n% system_ID 41\n",
    "evt3": b"% format EVT3;height=30;width=40\n% end\n",
}
_TRIGGERS = [(2_000, 1, 0), (9_000, 0, 0), (30_000, 1, 3)]


def _events(count: int = 200, width: int = 40, height: int = 30, start_us: int = 1_000) -> Events:
    """Return random events of 60 ms, the last pixel among them."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    x[0], y[0] = width - 1, height - 1
    t = np.sort(rng.integers(start_us, start_us + 60_000, count))
    return Events.checked(x, y, t, rng.integers(0, 2, count), Sensor(width, height))


def _recording(events: Events) -> ArrayRecording:
    """Return a recording with frames, inertial samples and triggers."""
    rng = np.random.default_rng(1)
    times = np.array([5_000, 20_000])
    tracks = {
        "frames": ArrayTrack(times, rng.integers(0, 256, (2, 30, 40), dtype=np.uint8)),
        "imu": ArrayTrack(times, rng.normal(size=(2, 10)).astype(np.float32)),
        "triggers": ArrayTrack(times, np.array([[1, 0], [0, 3]])),
    }
    return ArrayRecording(events, tracks)


def _encoder(module: str, name: str) -> Any:
    """Return a function of a module of tests."""
    return getattr(import_module(module), name)


def _store(folder: Path) -> None:
    WRITERS.get("eventfm")(folder / "ours.h5", _recording(_events()))
    save_recordings(folder / PACKED, {PACKED_ID: ArrayRecording(_events())}, pack_up_to=1000)


def _aedat4(folder: Path) -> None:
    packets, _ = _encoder("test_aedat4", "full_packets")(_events(100), packets=3)
    for compression, name in enumerate(("none", "lz4", "lz4hc", "zstd")):
        if name != "lz4hc":
            (folder / f"{name}.aedat4").write_bytes(_encoder("test_aedat4", "encode")(packets, compression))
    WRITERS.get("aedat4")(folder / "ours.aedat4", _recording(_events()))


def _aedat2(folder: Path) -> None:
    for chip, size in aedat.CHIPS.items():
        between = (aedat.SYNC,) if chip == "dvs128" else (aedat.APS | 77, aedat.SPECIAL)
        rows = aedat.rows2(_events(100, *size), chip, between=between)
        (folder / f"{chip}.aedat").write_bytes(aedat.header2(chip) + rows)


def _aedat_of(chip: str, version: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        rows = aedat.rows2(_events(200, *aedat.CHIPS[chip]), chip, version)
        (folder / "x.aedat").write_bytes(aedat.header2(version=version) + rows)

    return make


def _aedat3(folder: Path) -> None:
    packets = _encoder("test_aedat3", "packets")(_events(150, 128, 128))
    (folder / "x.aedat").write_bytes(aedat.header3() + packets)


def _raw(folder: Path) -> None:
    for name in _CODINGS:
        _words(name, _RAW_HEADERS[name])(folder)


def _words(name: str, header: bytes = b"") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / f"{name}.raw").write_bytes(header + _CODINGS[name](prophesee.rows_of(_events()), _TRIGGERS))

    return make


def _dat(folder: Path) -> None:
    WRITERS.get("dat")(folder / "ours.dat", ArrayRecording(_events()))
    first = prophesee.dat(prophesee.rows_of(_events()), "% Version 1\n", 0, (9, 8))
    (folder / "first.dat").write_bytes(first)


def _es(folder: Path) -> None:
    (folder / "x.es").write_bytes(_encoder("test_event_stream", "written")(_events()))


def _dsec(folder: Path) -> None:
    _encoder("test_hdf5_layouts", "write_dsec")(folder / "blosc.h5", _events(300, 640, 480, 1_000_700))
    WRITERS.get("dsec")(folder / "ours.h5", ArrayRecording(_events()))


def _m3ed(folder: Path) -> None:
    _encoder("test_m3ed", "write")(folder / "a_data.h5")


def _mvsec(folder: Path) -> None:
    events = _events(150, 346, 260, 1_504_645_177_000_000)
    seconds = events.t / 1e6
    with h5py.File(folder / "a_data.hdf5", "w") as file:
        camera = file.create_group("davis/left")
        table = np.stack([events.x, events.y, seconds, events.p * 2.0 - 1], 1)
        camera.create_dataset("events", data=table, compression="gzip", chunks=(100, 4))
        camera["image_raw"], camera["image_raw_ts"] = np.ones((3, 20, 30), np.uint8), seconds[:3]


def _prophesee_hdf5(folder: Path) -> None:
    write = _encoder("test_prophesee_hdf5", "write")
    triggers = [(p, t, channel) for t, p, channel in _TRIGGERS]
    write(folder / "ecf.hdf5", _events(), chunk=64, triggers=triggers)
    write(folder / "gzip.hdf5", _events(300), chunk=None)


def _ddd(folder: Path) -> None:
    polarity, frame, write = (_encoder("test_ddd", name) for name in ("polarity", "frame", "write"))
    events = _events(200, 346, 260)
    packets = [polarity(events.take(k, k + 40)) for k in range(0, 200, 40)]
    packets.insert(2, frame(np.ones((4, 6)), 5, 9))
    write(folder / "rec.hdf5", packets, spare=4, rows=4)


def _rvt(folder: Path) -> None:
    _encoder("test_hdf5_collections", "write_rvt")(folder / "a.h5", _events())


def _monash(folder: Path) -> None:
    write = _encoder("test_hdf5_collections", "write_monash")
    write(folder / "a.h5", _events(), [np.zeros((30, 40), np.uint8)], [1_500])


def _evlib(folder: Path) -> None:
    events = _events()
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["raw_events/x"], file["raw_events/y"] = events.x.astype(np.int32), events.y.astype(np.int32)
        file["raw_events/t"], file["raw_events/p"] = events.t / 1e6, events.p == 1


def _hdf5(folder: Path) -> None:
    events = _events()
    with h5py.File(folder / "table.h5", "w") as file:
        file["events"] = np.stack([events.x, events.y, events.t / 1e6, events.p], 1)
        file["image1"], file["image2"] = np.full((30, 44), 1, np.uint8), np.full((30, 44), 2, np.uint8)
        file["start"], file["stop"] = 0.0009996, 0.0613
    with h5py.File(folder / "columns.h5", "w") as file:
        for name in "xytp":
            file.create_dataset(f"events/{name}", data=getattr(events, name), chunks=(64,), compression="gzip")


def _ess(folder: Path) -> None:
    _encoder("test_ess", "write_ess")(folder / "dir0", _events(60, 346, 260), pictures=(1,))


def _evimo(folder: Path) -> None:
    events = _events()
    _encoder("test_array_folders", "write_evimo")(folder / "a", events)
    table = np.stack([events.t / 1e6, events.x, events.y, events.p], 1)
    np.savez(folder / "first.npz", events=table, index=np.arange(5), discretization=0.01)


def _rpg(folder: Path) -> None:
    write, pictures = _encoder("test_array_folders", "write_rpg"), np.ones((2, 30, 40), np.uint8)
    for header in (False, True):
        write(folder / f"header_{header}", _events(), pictures, (2_000, 30_000), header)


def _es_imagenet(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pos, neg = (rng.integers(1, 9, (count, 3), np.uint8) for count in (80, 90))
    np.savez(folder / "a.npz", pos=pos, neg=neg)
    np.savez_compressed(folder / "b.npz", pos=pos, neg=neg)


def _mat(folder: Path) -> None:
    events = _events(100)
    for packed in (False, True):
        named = {"events": {"e_data": np.stack([events.t, events.x, events.y, events.p]), "name": "shapes"}}
        scipy.io.savemat(folder / f"packed_{packed}.mat", named, do_compression=packed)


def _numpy(folder: Path) -> None:
    WRITERS.get("npy")(folder / "ours.npy", ArrayRecording(_events()))
    WRITERS.get("npz")(folder / "ours.npz", _recording(_events()))
    np.savez_compressed(folder / "packed.npz", **_events().to_dict())
    np.savez(folder / "n_imagenet.npz", event_data=_events().to_structured("xytp"))


def _ecd(folder: Path) -> None:
    root = folder / "scene"
    (root / "images").mkdir(parents=True)
    (root / "events.txt").write_text("".join(f"{t / 1e6:.9f} {x} {y} {p}\n" for x, y, t, p in _rows()))
    (root / "images.txt").write_text("".join(f"{0.01 * i:.9f} images/{i}.png\n" for i in range(3)))
    (root / "imu.txt").write_text("0.001 1 2 3 4 5 6\n0.0020004 7 8 9 10 11 12\n")
    (root / "calib.txt").write_text("1 2 3\n")
    for i in range(3):
        cv2.imwrite(str(root / f"images/{i}.png"), np.full((32, 44), 10 * i, np.uint8))


def _text(folder: Path) -> None:
    WRITERS.get("text")(folder / "ours.txt", ArrayRecording(_events()))
    WRITERS.get("csv")(folder / "ours.csv", ArrayRecording(_events()))
    (folder / "seconds.txt").write_text("".join(f"{t / 1e6:.9f} {x} {y} {p}\n" for x, y, t, p in _rows()))


def _atis(folder: Path) -> None:
    (folder / "a.bin").write_bytes(_encoder("test_atis", "encode")(_events(), overflow_after=(50, 120)))


def _rosbag(folder: Path) -> None:
    """Bags of the three containers, with all that is read from them, and all encodings of packets."""
    events = _events(60, start_us=ros.EPOCH_US)
    at = int(events.t[0]) * 1000
    for container in ros.CONTAINERS:
        make, words = ros.Messages(container != "bag"), ros.encoded(events)["evt3"]
        others = {
            "/image": (ros.IMAGE, [(at, make.image("mono8", 7, 5, 11, bytes(55), at))]),
            "/imu": (ros.IMU, [(at, make.imu((1, 2, 3), (4, 5, 6), at))]),
            "/trigger": (ros.PACKET, [(at, make.packet("trigger", bytes(16), at, at))]),
        }
        packets = ros.packet_topic(container, events, partial(_with_trigger, words=words), pieces=4)
        ros.write_bag(folder / f"packets_{container}", container, {"/e": packets, **others})
        ros.write_bag(folder / f"arrays_{container}", container, {"/e": ros.array_topic(container, events, pieces=4)})
    for encoding in ("mono", "libcaer", "libcaer_cmp"):
        topic = ros.packet_topic("bag", events, ros.encoded(events)[encoding], pieces=4)
        ros.write_bag(folder / f"{encoding}_bag", "bag", {"/e": topic})


def _with_trigger(part: Events, words: Callable[[Events], tuple[str, bytes, int]]) -> Any:
    """Return a packet of EVT3 words, a trigger before the events; the clock of `encoded` begins at 5 s."""
    encoding, data, base = words(part)
    return encoding, ros.evt3_trigger(int(part.t[0]) - ros.EPOCH_US + 5_000_000, 1, 3) + data, base


def _rows() -> list[tuple[int, int, int, int]]:
    return prophesee.rows_of(_events())


MAKERS: dict[str, Callable[[Path], None]] = {
    "eventfm": _store,
    "aedat4": _aedat4,
    "aedat2": _aedat2,
    **{f"aedat2_{chip}{raw}": _aedat_of(chip, 2) for chip in aedat.CHIPS for raw in ("", "_raw")},
    **{f"aedat1{raw}": _aedat_of("dvs128", 1) for raw in ("", "_raw")},
    "aedat3": _aedat3,
    "raw": _raw,
    **{name: _words(name) for name in _CODINGS},
    "dat": _dat,
    "es": _es,
    "dsec": _dsec,
    "m3ed": _m3ed,
    "mvsec": _mvsec,
    "prophesee_hdf5": _prophesee_hdf5,
    "ddd": _ddd,
    "ess": _ess,
    "rvt": _rvt,
    "monash": _monash,
    "evlib": _evlib,
    "hdf5": _hdf5,
    "evimo": _evimo,
    "rpg_memmap": _rpg,
    "es_imagenet": _es_imagenet,
    "mat": _mat,
    "numpy": _numpy,
    "ecd": _ecd,
    "text": _text,
    "atis": _atis,
    "rosbag": _rosbag,
}
"""By the name in `READERS`: writes files or folders into an empty folder."""
