"""The messages of a ROS bag, read through `rosbags`: ROS 1 bags, ROS 2 folders, `.db3` and `.mcap` files.

Only the container is read by `rosbags`; what a message holds is read by `ros_messages`. Each way in which `rosbags`
fails on damaged bytes becomes a `DamagedFileError` here.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eventfm.io.contract import DamagedFileError, FormatError
from eventfm.registry import MissingExtraError, require

ROS1, MCAP, SQLITE = b"#ROSBAG V2.0\n", b"\x89MCAP0\r\n", b"SQLite format 3\0"
Message = tuple[int, bytes]
"""When it was recorded (nanoseconds) and its bytes."""


class Topic(NamedTuple):
    """One topic of a bag."""

    type: str
    num_messages: int


class Bag:
    """The topics and messages of one bag; opened in the process that reads, picklable, shared by threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cdr = not _starts_with(path, ROS1)
        """Whether messages are as ROS 2 writes them."""
        self._reader: Any = None
        self._lock = threading.Lock()
        with self._lock, self._reading():
            found: dict[str, Topic] = {}
            for one in self._opened().connections:
                before = found.get(one.topic, Topic(one.msgtype, 0))
                if before.type != one.msgtype:
                    raise FormatError(f"{path}: topic {one.topic} has two types: {before.type} and {one.msgtype}")
                found[one.topic] = Topic(one.msgtype, before.num_messages + one.msgcount)
        self.topics = found

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "cdr": self.cdr, "topics": self.topics}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _reader=None, _lock=threading.Lock())

    def read(self, topic: str, start_ns: int, stop_ns: int) -> list[Message]:
        """Return the messages of `topic` that were recorded in `[start_ns, stop_ns)`, in order.

        Raises:
            DamagedFileError: The bag is damaged there.
        """
        with self._lock, self._reading():
            reader = self._opened()
            return [(time, bytes(raw)) for _, time, raw in reader.messages(_of(reader, topic), start_ns, stop_ns)]

    def first(self, topic: str) -> Message | None:
        """Return the first message of `topic`; None where it has none.

        Raises:
            DamagedFileError: The bag is damaged there.
        """
        with self._lock, self._reading():
            reader = self._opened()
            return next(((time, bytes(raw)) for _, time, raw in reader.messages(_of(reader, topic))), None)

    def walk(self, topic: str) -> Iterator[Message]:
        """Yield all messages of `topic`, in order, one at a time.

        Raises:
            DamagedFileError: The bag is damaged.
        """
        with self._reading(), _open(self.path) as reader:
            for _, time, raw in reader.messages(_of(reader, topic)):
                yield time, bytes(raw)

    @contextmanager
    def naming(self, part: str) -> Iterator[None]:
        """Let what goes wrong inside name the file and `part`."""
        try:
            yield
        except FormatError as error:
            if str(self.path) in str(error):
                raise
            raise type(error)(f"{self.path}: topic {part}: {error}") from error

    def _opened(self) -> Any:
        if self._reader is None:
            reader = _open(self.path)
            reader.open()
            self._reader = reader
        return self._reader

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (FormatError, FileNotFoundError, PermissionError, MissingExtraError):
            raise
        except Exception as error:
            # rosbags trusts what it reads: damage shows as an error of struct, of a codec, of an index, an assertion.
            remedy = (
                "ros2 bag reindex, or for .mcap files mcap recover, may repair it"
                if self.cdr
                else "rosbag reindex repairs bags that were cut off or never closed"
            )
            what = str(error) or type(error).__name__
            raise DamagedFileError(f"{self.path}: damaged or cut off: {what[:300]}; {remedy}") from error


class _BoundedFile(io.BufferedReader):
    """A file of which no more is asked for than is left, so that a damaged length reserves no memory."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class _BagPath(type(Path())):  # type: ignore[misc]
    """A path as `rosbags` takes it: its suffix tells the content, and what it opens is bounded."""

    @property
    def suffix(self) -> str:
        """The suffix that a file of this content should have."""
        if self.is_file():
            for magic, suffix in ((MCAP, ".mcap"), (SQLITE, ".db3")):
                if _starts_with(self, magic):
                    return suffix
        return str(super().suffix)

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """Return the file."""
        return _BoundedFile(str(self)) if mode == "rb" else super().open(mode, *args, **kwargs)


def _starts_with(path: Path, magic: bytes) -> bool:
    if not path.is_file():
        return False
    with io.open(str(path), "rb") as file:  # noqa: UP020  (the open of `_BagPath` is not meant)
        return file.read(len(magic)) == magic


def _open(path: Path) -> Any:
    if _starts_with(path, ROS1):
        reader = require("rosbags.rosbag1", "ros").Reader(path)
        reader.path = _BagPath(path)
        return reader
    return require("rosbags.rosbag2", "ros").Reader(_BagPath(path))


def _of(reader: Any, topic: str) -> list[Any]:
    return [one for one in reader.connections if one.topic == topic]
