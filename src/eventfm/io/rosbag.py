"""ROS bags: ROS 1 `.bag`, ROS 2 folders, `.db3` and `.mcap`.

Clock: all times are microseconds of the ROS clock (Unix epoch), so that events, frames and inertial samples agree.
Events of `dvs_msgs` and `prophesee_event_msgs` state it themselves. Packets of `event_camera_msgs` with the encodings
`libcaer` and `libcaer_cmp` count from the host's clock; with `evt3` and `mono` they state the sensor's, which is
shifted by one constant, so that the first packet begins at the stamp of its header. Durations stay the sensor's.

Frames, inertial samples and triggers have the stamps of their headers; where one is not set, the time at which the
message was recorded. Triggers are those of packets with the encoding `trigger`, and those among the words of `evt3`,
which are on the clock of the events beside them.

Which topic: `"file.bag::/topic"`, or the only one that holds events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eventfm.events import Events, OnError, Sensor
from eventfm.io import ros_encodings, ros_messages
from eventfm.io.blocks import Block, cached_index
from eventfm.io.contract import DamagedFileError, FormatError, Reader, choose_sensor, report_cut
from eventfm.io.recording import ArrayRecording
from eventfm.io.ros_container import MCAP, ROS1, SQLITE, Bag, Message
from eventfm.io.ros_messages import EVENT_ARRAYS, EVENT_PACKETS, Rows
from eventfm.io.ros_tracks import bag_tracks
from eventfm.io.trigger_track import Rows as Triggers
from eventfm.io.trigger_track import TriggerTrack
from eventfm.protocols import Recording, Track

_INDEX_VERSION = 2
_BLOCK_BYTES = 1 << 18
_CACHED_BLOCKS = 4
_NUM_FACTS = 5
_TRIGGERS_AT = 4


class _Facts(NamedTuple):
    """What is known of the events of a block; kept at the head of `Block.state`, before the decoder's own."""

    shift_us: int
    right: int
    bottom: int
    ordered: int
    """1 where times do not go backwards, nor behind those of the block before, and polarity is 0 or 1."""
    num_triggers: int
    """Of those among the events."""


class _Source:
    """Events of one topic: runs of its messages, decoded."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self.bag = bag
        self.topic = topic
        self.packed = bag.topics[topic].type in EVENT_PACKETS
        self.size = (0, 0)
        """Width and height of the sensor as the first message states them."""
        self.encoding = ""
        if (first := bag.first(topic)) is not None:
            with bag.naming(topic):
                self.size, self.encoding = self._describe(first)

    def decode(self, messages: list[Message], state: tuple[int, ...]) -> tuple[Rows, tuple[int, ...]]:
        """Return the events of `messages`, on the clock of the messages, and the decoder's state after them."""
        cdr = self.bag.cdr
        with self.bag.naming(f"{self.topic}, near {messages[0][0]} ns"):
            if self.packed:
                packets = [ros_messages.event_packet(raw, cdr, time) for time, raw in messages]
                return ros_encodings.decode(packets, state)
            return ros_encodings.join([ros_messages.event_array(raw, cdr)[1] for _, raw in messages]), ()

    def block(self, block: Block) -> Rows:
        """Return the events of `block`, on the ROS clock."""
        messages = self._messages(block)
        rows, _ = self.decode(messages, block.state[_NUM_FACTS:])
        if len(rows.t) != block.num_events:
            raise DamagedFileError(
                f"{self.bag.path}: {len(rows.t)} events where the index has {block.num_events}; "
                "the bag was changed: delete the index file beside it"
            )
        return rows._replace(t=rows.t + _Facts(*block.state[:_NUM_FACTS]).shift_us)

    def block_triggers(self, block: Block) -> Triggers:
        """Return the triggers among the events of `block`, on the ROS clock."""
        messages = self._messages(block)
        rows = self.triggers(messages, block.state[_NUM_FACTS:])
        return np.add(rows, (_Facts(*block.state[:_NUM_FACTS]).shift_us, 0, 0))

    def _messages(self, block: Block) -> list[Message]:
        """Return the messages of `block`.

        Raises:
            DamagedFileError: They are not found by their times.
        """
        found = self.bag.read(self.topic, block.offset, block.offset + block.size)
        if not found:
            raise DamagedFileError(
                f"{self.bag.path}: topic {self.topic}: the messages from {block.offset} ns on, which a read in order "
                "found, are not there by their times; the bag's own index is damaged"
            )
        return found

    def triggers(self, messages: list[Message], state: tuple[int, ...]) -> Triggers:
        """Return the triggers among the events of `messages`, on the clock of the messages; `state` as for `decode`."""
        if self.encoding != "evt3":
            return np.empty((0, 3), np.int64)
        with self.bag.naming(f"{self.topic}, near {messages[0][0]} ns"):
            packets = [ros_messages.event_packet(raw, self.bag.cdr, time) for time, raw in messages]
            return ros_encodings.triggers(packets, state)

    def shift_us(self, messages: list[Message]) -> int | None:
        """Return what to add to the decoder's times; None if `messages` hold no event and no trigger yet."""
        if self.encoding not in ros_encodings.SENSOR_CLOCK:
            return 0
        state: tuple[int, ...] = ()
        for time, raw in messages:
            packet = ros_messages.event_packet(raw, self.bag.cdr, time)
            found = ros_encodings.triggers([packet], state)[:, 0]
            rows, state = ros_encodings.decode([packet], state)
            if len(times := rows.t if len(rows.t) else found):
                first = packet.time_base_ns // 1000 if packet.encoding == "mono" else int(times[0])
                return packet.stamp_us - first
        return None

    def _describe(self, first: Message) -> tuple[tuple[int, int], str]:
        time, raw = first
        if not self.packed:
            return ros_messages.event_array(raw, self.bag.cdr)[0], ""
        packet = ros_messages.event_packet(raw, self.bag.cdr, time)
        return (packet.width, packet.height), packet.encoding


class BagRecording:
    """Events of one topic whose messages are in order; runs of messages are decoded as they are needed."""

    format = "rosbag"

    def __init__(self, source: _Source, blocks: list[Block], sensor: Sensor, tracks: Mapping[str, Track]) -> None:
        self._source = source
        self._blocks = blocks
        self._ends = np.array([block.start + block.num_events for block in blocks], np.int64)
        self._first_us = np.array([block.t_first for block in blocks], np.int64)
        self._last_us = np.array([block.t_last for block in blocks], np.int64)
        self._cache: dict[int, Rows] = {}
        self.sensor = sensor
        self.tracks = tracks
        self.num_events = int(self._ends[-1]) if blocks else 0
        self.t_range = (int(self._first_us[0]), int(self._last_us[-1])) if blocks else (0, -1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        start = int(np.searchsorted(self._last_us, t0, side="left"))
        stop = int(np.searchsorted(self._first_us, t1, side="left"))
        return self._decode(start, stop).between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive); the range is cut to the recording."""
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        before = self._blocks[first].start
        return self._decode(first, last + 1).take(start - before, stop - before)

    def _decode(self, start: int, stop: int) -> Events:
        if start >= stop:
            return Events.empty(self.sensor)
        cache = self._cache
        found = {i: cache[i] if i in cache else self._source.block(self._blocks[i]) for i in range(start, stop)}
        # Replaced as a whole, so that threads may share the recording: the next window mostly starts where this ends.
        self._cache = {i: found[i] for i in range(max(start, stop - _CACHED_BLOCKS), stop)}
        source = f"{self._source.bag.path}, {self._source.topic}"
        return Events.checked(*ros_encodings.join(list(found.values())), self.sensor, source=source)


def sniff(path: Path) -> float:
    """Return 1 for a bag of ROS 1 or ROS 2.

    Raises:
        FormatError: It is none, or one that cannot be read as it is.
    """
    if path.is_dir():
        return _sniff_folder(path)
    with path.open("rb") as file:
        head = file.read(1 << 14)
    if head.startswith((ROS1, MCAP)):
        return 1.0
    if head.startswith(b"#ROSBAG V1"):
        raise DamagedFileError("it is a ROS 1 bag of version 1; bring it to version 2 with rosbag fix")
    if head.startswith(SQLITE) and b"messages" in head and b"topics" in head:
        return 1.0
    raise FormatError("it starts neither as a ROS 1 bag nor as .mcap, nor is it a database of messages and topics")


def open_bag(path: Path, sensor: Sensor | None, on_error: OnError) -> Recording:
    """Return the events of one topic with the tracks `frames`, `imu` and `triggers` that the bag has.

    Every event is decoded and checked once here, unless an index of an earlier time is there. Of several topics with
    pictures the one whose name is most like that of the events is `frames`, of those alike `image_raw`, and the others
    are tracks under their own names; so for `imu`.

    Raises:
        FormatError: No topic holds events, or several do and none was chosen; or the bag is damaged.
        MissingExtraError: The package `rosbags` is not installed.
    """
    file, wanted = _split(path)
    bag = Bag(file)
    trigger_topics = _trigger_topics(bag)
    source = _Source(bag, _choose(bag, wanted, trigger_topics))
    blocks = _index(source, on_error)
    stated = Sensor(*source.size) if min(source.size) > 0 and max(source.size) <= 1 << 16 else None
    among_events = None
    if any(block.state[_TRIGGERS_AT] for block in blocks):
        among_events = TriggerTrack(str(file), blocks, _TRIGGERS_AT, source.block_triggers, on_error)
    tracks = bag_tracks(bag, source.topic, trigger_topics, among_events)
    blocks = [block for block in blocks if block.num_events]
    facts = [_Facts(*block.state[:_NUM_FACTS]) for block in blocks]
    right, bottom = (max((fact[k] for fact in facts), default=0) for k in (1, 2))
    size = choose_sensor([right] if blocks else [], [bottom] if blocks else [], sensor, stated)
    if all(fact.ordered for fact in facts) and right < size.width and bottom < size.height:
        return BagRecording(source, blocks, size, tracks)
    rows = ros_encodings.join([source.block(block) for block in blocks])
    return ArrayRecording(Events.checked(*rows, size, on_error=on_error, source=str(file)), tracks, "rosbag")


def _sniff_folder(path: Path) -> float:
    metadata = path / "metadata.yaml"
    if metadata.is_file():
        with metadata.open("rb") as file:
            if b"rosbag2_bagfile_information" in file.read(1 << 12):
                return 1.0
    elif any(path.glob("*.db3")) or any(path.glob("*.mcap")):
        raise DamagedFileError("the folder of a ROS 2 bag without metadata.yaml; ros2 bag reindex writes it")
    raise FormatError("the folder is no ROS 2 bag")


def _split(path: Path) -> tuple[Path, str | None]:
    file, mark, topic = str(path).rpartition("::")
    return (path, None) if path.exists() or not mark else (Path(file), "/" + topic.strip("/"))


def _trigger_topics(bag: Bag) -> list[str]:
    found = []
    for topic, (kind, _) in bag.topics.items():
        first = bag.first(topic) if kind in EVENT_PACKETS else None
        with bag.naming(topic):
            if first is not None and ros_messages.event_packet(first[1], bag.cdr, first[0]).encoding == "trigger":
                found.append(topic)
    return found


def _choose(bag: Bag, wanted: str | None, trigger_topics: list[str]) -> str:
    kinds = (*EVENT_ARRAYS, *EVENT_PACKETS)
    topics = sorted(t for t, topic in bag.topics.items() if topic.type in kinds and t not in trigger_topics)
    listing = ", ".join(topics)
    if wanted is not None:
        found = next((topic for topic in topics if "/" + topic.strip("/") == wanted), None)
        if found is None:
            raise FormatError(f"{bag.path}: no events under topic {wanted}; it has events under: {listing or 'none'}")
        return found
    if not topics:
        held = ", ".join(f"{name} ({topic.type})" for name, topic in sorted(bag.topics.items()))
        raise FormatError(f"{bag.path}: no topic holds events of {', '.join(kinds)}; it has: {held[:600] or 'none'}")
    if len(topics) > 1:
        raise FormatError(
            f"{bag.path}: {len(topics)} topics hold events: {listing}; "
            f'choose one with open_recording("{bag.path}::{topics[0]}")'
        )
    return topics[0]


def _index(source: _Source, on_error: OnError) -> list[Block]:
    # A folder's own size and time say nothing of what is in it.
    path, files = source.bag.path, [source.bag.path]
    if path.is_dir():
        path, files = path / "metadata.yaml", [file for file in path.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files)

    def scan(_: Path) -> list[Block]:
        return list(_scan(source))

    try:
        return cached_index(path, f"rosbag {source.topic}", _INDEX_VERSION, scan, size)
    except DamagedFileError as error:
        report_cut(str(error), on_error)
    blocks: list[Block] = []
    try:
        for block in _scan(source):
            blocks.append(block)
    except DamagedFileError:
        pass  # reported above
    return blocks


def _scan(source: _Source) -> Iterator[Block]:
    """Yield blocks of the topic: `offset` and `size` are nanoseconds of recording, not bytes."""
    start = 0
    state: tuple[int, ...] = ()
    shift: int | None = None
    last_us: int | None = None
    for messages in _runs(source.bag.walk(source.topic)):
        shift = source.shift_us(messages) if shift is None else shift
        rows, after = source.decode(messages, state)
        num_triggers = len(source.triggers(messages, state))
        first_ns, size = messages[0][0], messages[-1][0] + 1 - messages[0][0]
        if len(rows.t):
            t = rows.t + (shift or 0)
            ordered = (last_us is None or t[0] >= last_us) and not (t[1:] < t[:-1]).any() and rows.p.max() <= 1
            facts = _Facts(shift or 0, int(rows.x.max()), int(rows.y.max()), int(ordered), num_triggers)
            yield Block(first_ns, size, start, len(t), int(t[0]), int(t[-1]), (*facts, *state))
            start, last_us = start + len(t), int(t[-1])
        elif num_triggers:
            yield Block(first_ns, size, start, 0, 0, -1, (*_Facts(shift or 0, 0, 0, 1, num_triggers), *state))
        state = after


def _runs(messages: Iterator[Message]) -> Iterator[list[Message]]:
    """Yield messages in runs of about `_BLOCK_BYTES`; those that were recorded at one time stay together."""
    run: list[Message] = []
    size = 0
    try:
        for message in messages:
            if size >= _BLOCK_BYTES and message[0] != run[-1][0]:
                yield run
                run, size = [], 0
            run.append(message)
            size += len(message[1])
    except DamagedFileError:
        if run:
            yield run  # what was read before the damage is whole
        raise
    if run:
        yield run


READER = Reader(sniff, open_bag)
