"""What a teacher is shown: the picture of all that a sensor looks at, and its key in a cache of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eventfm.data.collection import Entry
from eventfm.data.pictures import decode, picture_key, resized
from eventfm.data.problems import UnreadableError, reading
from eventfm.data.windows import require_frame_size
from eventfm.protocols import Recording
from eventfm.simulation.light import coded


class Tokens(Protocol):
    """What a teacher has said of pictures, by their keys; `token_cache.TokenCache` is one."""

    @property
    def dim(self) -> int:
        """Length of one token."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def failed(self) -> Mapping[str, str]:
        """Pictures that could not be read when the tokens were made, and why, by name."""
        ...

    def __contains__(self, key: str) -> bool: ...

    def read(self, key: str) -> NDArray[Any]:
        """Return the tokens (rows * cols, dim) of one picture."""
        ...

    def check(
        self,
        identity: Mapping[str, Any] | None = None,
        field: tuple[int, int] | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """Raise ValueError if they are another teacher's, of another sensor's field, or lack some of `keys`.

        `keys` maps the key of each picture to its name.
        """
        ...


class Scene(Protocol):
    """One picture for a teacher."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def key(self) -> str:
        """What tells its content from any other."""
        ...

    def read(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """Return it as (3, h, w) float32, sRGB in [0, 1], of `size` (h, w)."""
        ...


@dataclass(frozen=True, slots=True)
class Still:
    """A picture file: the whole of it, or the part that a sensor of the shape `field` (height, width) sees at rest."""

    path: Path
    field: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def key(self) -> str:
        """Hash of the file."""
        return picture_key(self.path)

    def read(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """Return (3, h, w) float32, not to be written to.

        Raises:
            UnreadableError: It cannot be read as a picture.
        """
        return _read_still(self.path, self.field, size)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a recording, which shows what the sensor saw."""

    entry: Entry
    number: int

    @property
    def name(self) -> str:
        """The recording and the number of the frame."""
        return f"{self.entry.name}, frame {self.number}"

    @property
    def key(self) -> str:
        """What the recording holds, and the number of the frame."""
        return f"{self.entry.fingerprint}#{self.number}"

    def read(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """Return (3, h, w) float32.

        Raises:
            UnreadableError: The frame cannot be read.
            WindowError: It is not as large as the sensor.
        """
        recording = self.entry.recording
        with reading(self.name):
            frame = recording.tracks["frames"].read(self.number)
        require_frame_size(recording.sensor, frame.shape[:2])
        return resized(as_shown(frame, holds_light(recording)), size)


@dataclass(frozen=True)
class Scenes:
    """The teacher's pictures of a data source, by number."""

    scenes: tuple[Scene, ...]
    field: tuple[int, int]
    """Width and height of the sensor, whose shape pictures are cut to where they are animated."""

    def __len__(self) -> int:
        return len(self.scenes)

    def key(self, i: int) -> str:
        """Return what tells the content of picture `i` from any other."""
        return self.scenes[i].key

    def name(self, i: int) -> str:
        """Return what people call picture `i`."""
        return self.scenes[i].name

    def read(self, i: int, size: tuple[int, int]) -> NDArray[np.float32]:
        """Return picture `i` as (3, h, w) float32, sRGB in [0, 1], of `size` (h, w); not to be written to.

        Raises:
            UnreadableError: It cannot be read.
        """
        return self.scenes[i].read(size)


@dataclass(frozen=True)
class TeacherInput:
    """What samples hold for a teacher: its pictures, or the tokens that it has left in a cache."""

    input_size: tuple[int, int]
    """Height and width of the teacher's pictures, pixels."""
    cache: Tokens | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array that a sample has more."""
        if self.cache is None:
            return {"view": (5,), "teacher_picture": (3, *self.input_size)}
        rows, columns = self.cache.grid
        return {"view": (5,), "teacher_tokens": (rows * columns, self.cache.dim)}

    def fill(
        self,
        scene: Scene,
        view: NDArray[np.float32],
        out: dict[str, NDArray[np.generic]],
        picture: NDArray[Any] | None = None,
    ) -> None:
        """Write what belongs to `scene` into `out`; `picture` (3, h, w) saves reading it.

        Raises:
            UnreadableError: It cannot be read, or the cache does not have it.
        """
        out["view"][...] = view
        if self.cache is None:
            out["teacher_picture"][...] = scene.read(self.input_size) if picture is None else picture
        elif (key := scene.key) in self.cache:
            out["teacher_tokens"][...] = self.cache.read(key)
        else:
            raise UnreadableError(scene.name, "is not in the cache of the teacher's tokens")


def holds_light(recording: Recording) -> bool:
    """Return whether 16-bit frames of a recording are linear light, as the simulator writes them, and not coded."""
    origin = getattr(recording, "provenance", {})
    return "simulated" in (recording.format, recording.sensor.name) or origin.get("simulator") == "eventfm"


def as_shown(frame: NDArray[Any], light: bool) -> NDArray[Any]:
    """Return a frame (H, W), (H, W, 1), (H, W, 3) or with alpha as sRGB (H, W) or (H, W, 3).

    `light` says that frames of 16 bits are linear light; all others are taken to be coded already.
    """
    if frame.ndim == 3:
        frame = frame[..., 0] if frame.shape[2] == 1 else frame[..., :3]
    return _srgb_of_light()[frame] if light and frame.dtype == np.uint16 else np.ascontiguousarray(frame)


@lru_cache(maxsize=1)
def _srgb_of_light() -> NDArray[np.float32]:
    return coded(np.arange(1 << 16) / ((1 << 16) - 1)).astype(np.float32)


@lru_cache(maxsize=64)  # a recording has one still and many windows; 64 pictures of 224 x 224 take 40 MB
def _read_still(path: Path, field: tuple[int, int] | None, size: tuple[int, int]) -> NDArray[np.float32]:
    out = resized(decode(path), size, field)
    out.flags.writeable = False
    return out
