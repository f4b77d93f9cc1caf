"""Arrays in an `.npz` that are larger than memory: mapped where they stand, if they are not compressed."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from eventfm.io.contract import DamagedFileError, FormatError

_NAME_LENGTH_AT = 26
"""Where in the header of a zip's member the lengths of its name and of its extra field stand, two bytes each."""


class NpzMember:
    """One array of an `.npz`, mapped at first use in each process; never unpickled."""

    def __init__(self, path: Path, name: str) -> None:
        """Look the array `name` up.

        Raises:
            FormatError: There is none of that name, it is compressed, or the file is damaged.
        """
        self._path = path
        self._map: NDArray[Any] | None = None
        try:
            with zipfile.ZipFile(path) as archive:
                item = archive.getinfo(f"{name}.npy")
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise DamagedFileError(f"{path}: expected an array {name} in it: {error}") from None
        if item.compress_type != zipfile.ZIP_STORED:
            folder = path.with_suffix("").name
            raise FormatError(
                f"{path} is compressed and would fill the memory; unpack it once: unzip {path.name} -d {folder}"
            )
        try:
            with path.open("rb") as file:
                file.seek(item.header_offset + _NAME_LENGTH_AT)
                file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
                version = npy_format.read_magic(file)
                read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
                self.shape, fortran, self.dtype = read(file)
                self._offset = file.tell()
        except Exception as error:  # numpy lets out whatever damaged bytes raise
            raise DamagedFileError(f"{path}, {name}: damaged: {error}") from None
        num_bytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        if fortran or self.dtype.hasobject or self._offset + num_bytes > path.stat().st_size:
            raise DamagedFileError(f"{path}, {name}: expected numbers by rows, whole, got {self.shape} of {self.dtype}")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, i: int | slice) -> NDArray[Any]:
        if self._map is None:
            self._map = np.memmap(self._path, self.dtype, "r", self._offset, self.shape)
        return np.array(self._map[i])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}
