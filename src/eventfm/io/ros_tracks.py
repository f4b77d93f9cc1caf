"""Pictures, inertial samples and triggers of a ROS bag, by topic."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.io import ros_encodings, ros_messages
from eventfm.io.contract import DamagedFileError
from eventfm.io.recording import as_track_times
from eventfm.io.ros_container import Bag
from eventfm.io.ros_messages import IMAGES, IMU
from eventfm.protocols import Track


def bag_tracks(bag: Bag, events: str, trigger_topics: list[str], among_events: Track | None) -> dict[str, Track]:
    """Return `frames`, `imu` and `triggers`, as far as the bag has them; `among_events` are triggers of `events`.

    Of several topics of a kind the one whose name begins most like `events` has the plain name, and the others are
    called as their topics are; triggers among the events come before those of topics of their own. Of pictures that
    begin alike those of a camera (`image_raw`) come before what else a simulator writes (`depthmap`).
    """
    tracks: dict[str, Track] = {}
    kinds: list[tuple[str, type[ImageTrack] | type[SampleTrack], list[str]]] = [
        ("frames", ImageTrack, [name for name, topic in bag.topics.items() if topic.type in IMAGES]),
        ("imu", SampleTrack, [name for name, topic in bag.topics.items() if topic.type == IMU]),
        ("triggers", SampleTrack, trigger_topics),
    ]
    if among_events is not None:
        tracks["triggers"] = among_events
    for name, kind, topics in kinds:
        held = [topic for topic in topics if bag.topics[topic].num_messages]
        held.sort(key=lambda topic: (-_shared(topic, events), "image_raw" not in topic, topic))
        for topic in held:
            tracks[topic if name in tracks else name] = kind(bag, topic)
    return tracks


def _shared(topic: str, other: str) -> int:
    """Return how many parts of their names two topics have in common."""
    pairs = zip(topic.split("/"), other.split("/"), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


class ImageTrack:
    """Pictures of one topic, decoded when read; their times are looked up at first use."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self._bag = bag
        self._topic = topic
        self._compressed = bag.topics[topic].type != IMAGES[0]
        self._entries: tuple[NDArray[np.int64], list[tuple[int, int]]] | None = None

    def __len__(self) -> int:
        return len(self.times)  # what a bag says of it need not be so

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds of the stamps of the headers, in order."""
        return self._load()[0]

    def read(self, i: int) -> NDArray[Any]:
        """Return picture `i`, (H, W) or (H, W, 3) RGB, uint8 or uint16.

        Raises:
            FormatError: Its encoding is not known, or it is damaged.
        """
        time, rank = self._load()[1][i]
        with self._bag.naming(f"{self._topic}, picture {i}"):
            found = self._bag.read(self._topic, time, time + 1)
            if rank >= len(found):
                raise DamagedFileError(f"no message at {time} ns, where there was one; the bag's own index is damaged")
            _, raw = found[rank]
            return ros_messages.picture(raw, self._bag.cdr, self._compressed)

    def _load(self) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
        if self._entries is None:
            times: list[int] = []
            places: list[tuple[int, int]] = []
            with self._bag.naming(self._topic):
                for time, raw in self._bag.walk(self._topic):
                    times.append(ros_messages.stamp_us(raw, self._bag.cdr, time))
                    # Several messages may have been recorded at one time.
                    rank = places[-1][1] + 1 if places and places[-1][0] == time else 0
                    places.append((time, rank))
            order = np.argsort(np.array(times, np.int64), kind="stable")
            self._entries = as_track_times(np.array(times, np.int64)[order]), [places[i] for i in order]
        return self._entries


class SampleTrack:
    """Inertial samples (6,) float64 or triggers (2,) int64 of one topic, all decoded at first use.

    An inertial sample is acceleration x, y, z (m/s^2) and angular velocity x, y, z (rad/s); a trigger is (edge,
    channel), edge 1 rising and 0 falling.
    """

    def __init__(self, bag: Bag, topic: str) -> None:
        self._bag = bag
        self._topic = topic
        self._loaded: tuple[NDArray[np.int64], NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self.times)

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds of each entry, in order."""
        return self._load()[0]

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`."""
        return np.asarray(self._load()[1][i])

    def _load(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        if self._loaded is None:
            is_imu = self._bag.topics[self._topic].type == IMU
            with self._bag.naming(self._topic):
                times, rows = self._inertial() if is_imu else self._triggers()
            order = np.argsort(times, kind="stable")
            self._loaded = times[order], rows[order]
        return self._loaded

    def _inertial(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        cdr, found = self._bag.cdr, list(self._bag.walk(self._topic))
        times = [ros_messages.stamp_us(raw, cdr, time) for time, raw in found]
        rows = [ros_messages.imu_sample(raw, cdr) for _, raw in found]
        return np.array(times, np.int64), np.array(rows, np.float64).reshape(-1, 6)

    def _triggers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        parts = [np.empty((0, 3), np.int64)]
        shift = None
        for time, raw in self._bag.walk(self._topic):
            packet = ros_messages.event_packet(raw, self._bag.cdr, time)
            shift = packet.stamp_us - packet.time_base_ns // 1000 if shift is None else shift
            parts.append(np.add(ros_encodings.triggers([packet], ()), (shift, 0, 0)))
        rows = np.concatenate(parts)
        return rows[:, 0], rows[:, 1:]
