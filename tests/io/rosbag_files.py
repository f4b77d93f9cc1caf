"""ROS bags for tests: messages serialised and containers written by `rosbags`, payloads of event packets by hand."""

import itertools
import struct
from dataclasses import replace
from functools import cache

import numpy as np
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

DVS, PROPHESEE = "dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray"
PACKET = "event_camera_msgs/msg/EventPacket"
IMAGE, COMPRESSED, IMU = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "Imu"))
CONTAINERS = ("bag", "db3", "mcap")
EPOCH_US = 1_675_956_550_318_916
NS = 1000


@cache
def types(cdr):
    store = get_typestore(Stores.ROS2_HUMBLE if cdr else Stores.ROS1_NOETIC)
    time, header = ("builtin_interfaces/Time", "std_msgs/Header") if cdr else ("time", "Header")
    texts = {PACKET: f"{header} header\nuint32 height\nuint32 width\nuint64 seq\nuint64 time_base\nstring encoding\n"
                     "bool is_bigendian\nuint8[] events\n"}  # fmt: skip
    for package in ("dvs_msgs", "prophesee_event_msgs"):
        texts[f"{package}/msg/Event"] = f"uint16 x\nuint16 y\n{time} ts\nbool polarity\n"
        texts[f"{package}/msg/EventArray"] = f"{header} header\nuint32 height\nuint32 width\n{package}/Event[] events\n"
    for name, text in texts.items():
        store.register(get_types_from_msg(text, name))
    return store


class Messages:
    """Makes the bytes of messages of one ROS version; stamps and times are nanoseconds."""

    def __init__(self, cdr):
        self.cdr = cdr
        self.store = types(cdr)

    def raw(self, kind, *values):
        message = self.store.types[kind](*values)
        return bytes((self.store.serialize_cdr if self.cdr else self.store.serialize_ros1)(message, kind))

    def time(self, ns):
        return self.store.types["builtin_interfaces/msg/Time"](*divmod(ns, 10**9))

    def header(self, stamp, frame="cam"):
        kind = self.store.types["std_msgs/msg/Header"]
        return kind(*([] if self.cdr else [7]), self.time(stamp), frame)

    def array(self, kind, events, stamp=0, frame="cam", extra_ns=0):
        one = self.store.types[kind.replace("EventArray", "Event")]
        rows = zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True)
        items = [one(x, y, self.time(t * 1000 + extra_ns), bool(p)) for x, y, t, p in rows]
        return self.raw(kind, self.header(stamp, frame), events.sensor.height, events.sensor.width, items)

    def packet(self, encoding, payload, stamp=0, base=0, size=(40, 30), frame="cam", big=False):
        data = np.frombuffer(payload, np.uint8)
        return self.raw(PACKET, self.header(stamp, frame), size[1], size[0], 1, base, encoding, big, data)

    def image(self, encoding, width, height, step, data, stamp=0, big=0):
        return self.raw(IMAGE, self.header(stamp), height, width, encoding, big, step, np.frombuffer(data, np.uint8))

    def compressed(self, data, stamp=0):
        return self.raw(COMPRESSED, self.header(stamp), "png", np.frombuffer(data, np.uint8))

    def imu(self, acceleration, velocity, stamp=0):
        vector, none = self.store.types["geometry_msgs/msg/Vector3"], np.full(9, -1.0)
        turn = self.store.types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        return self.raw(IMU, self.header(stamp), turn, none, vector(*velocity), none, vector(*acceleration), none)


def write_bag(path, container, topics, **options):
    """Write `topics`, {name: (type, [(ns, raw), ...])}, and return the path: a `.bag` or the folder of a ROS 2 bag."""
    if container == "bag":
        writer = rosbag1.Writer(path)
        if "compression" in options:
            writer.set_compression(options["compression"])
        if "chunk" in options:
            writer.chunk_threshold = options["chunk"]
    else:
        plugin = rosbag2.StoragePlugin.MCAP if container == "mcap" else rosbag2.StoragePlugin.SQLITE3
        writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
        if "mode" in options:
            writer.set_compression(options["mode"], rosbag2.CompressionFormat.ZSTD)
    with writer:
        held = []
        for name, (kind, messages) in topics.items():
            connection = writer.add_connection(name, kind, typestore=types(container != "bag"))
            held += [(time, connection, raw) for time, raw in messages]
        for time, connection, raw in sorted(held, key=lambda one: one[0]):
            writer.write(connection, time, raw)
    return path


def evt3_words(events, high=None, y=None):
    """Words u16 of EVT3 by the layout, one event each, and what is in force at the end: (time high, y)."""
    words = []
    for x, row, t, p in zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True):
        if t >> 12 != high:
            high = t >> 12
            words.append(0x8000 | high & 0xFFF)
        words.append(0x6000 | t & 0xFFF)
        if row != y:
            y = row
            words.append(row)
        words.append(0x2000 | p << 11 | x)
    return struct.pack(f"<{len(words)}H", *words), (high, y)


def evt3_trigger(t, edge, channel):
    """Words u16 of EVT3 of one trigger, with all of its time."""
    return struct.pack("<3H", 0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, 0xA000 | channel << 8 | edge)


def mono_payload(events, base_us):
    """Words u64: polarity[63] y[62:48] x[47:32] nanoseconds[31:0]."""
    rows = zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True)
    return b"".join(struct.pack("<Q", p << 63 | y << 48 | x << 32 | (t - base_us) * 1000) for x, y, t, p in rows)


def libcaer_payload(events, base_us):
    """Pairs of u32 x[31:17] y[16:2] p[1] valid[0] and i32 microseconds."""
    rows = zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True)
    return b"".join(struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, (t - base_us) % (1 << 31)) for x, y, t, p in rows)


def libcaer_cmp_payload(events, base_us):
    """Words u16 of libcaer_cmp, one event each."""
    words, high = [], None
    for x, y, t, p in zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True):
        us = t - base_us
        if us >> 12 != high:
            high = us >> 12
            words.append(high)
        words += [0x1000 | us & 0xFFF, 0x2000 | x, 0x3000 | p << 11 | y]
    return struct.pack(f"<{len(words)}H", *words)


def parts(events, count):
    edges = np.linspace(0, len(events), count + 1).astype(int)
    return [events.take(a, b) for a, b in itertools.pairwise(edges)]


def array_topic(container, events, kind=DVS, pieces=9, **options):
    make = Messages(container != "bag")
    return kind, [
        (int(part.t[-1]) * NS + 5, make.array(kind, part, int(part.t[0]) * NS, **options))
        for part in parts(events, pieces)
    ]


def packet_topic(container, events, payload, pieces=9):
    """Packets whose header stamps are the time of their first event; `payload(part)` gives (encoding, bytes, base)."""
    make = Messages(container != "bag")
    messages = []
    for part in parts(events, pieces):
        encoding, data, base_ns = payload(part)
        messages.append((int(part.t[-1]) * NS + 5, make.packet(encoding, data, int(part.t[0]) * NS, base_ns)))
    return PACKET, messages


def encoded(events):
    """The ways to encode `events` in packets; sensor clocks begin at 5 s, host clocks at the epoch."""
    shift = EPOCH_US - 5_000_000
    state = {"high": None, "y": None}

    def evt3(part):
        data, (state["high"], state["y"]) = evt3_words(replace(part, t=part.t - shift), **state)
        return "evt3", data, 0

    def mono(part):
        base = int(part.t[0]) - shift
        return "mono", mono_payload(replace(part, t=part.t - shift), base), base * NS

    def libcaer(part):
        return "libcaer", libcaer_payload(part, EPOCH_US - 17), (EPOCH_US - 17) * NS

    def libcaer_cmp(part):
        return "libcaer_cmp", libcaer_cmp_payload(part, int(part.t[0])), int(part.t[0]) * NS

    return {"evt3": evt3, "mono": mono, "libcaer": libcaer, "libcaer_cmp": libcaer_cmp}
