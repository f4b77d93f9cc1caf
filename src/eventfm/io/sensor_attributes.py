"""The sensor as attributes of a group of an HDF5 file, which other tools pass over."""

from __future__ import annotations

from typing import Any

import numpy as np

from eventfm.events import Sensor
from eventfm.io.store_layout import read_text


def write_sensor(group: Any, sensor: Sensor) -> None:
    """Note size, name and whether the size was inferred, under the names that the native store uses."""
    name = sensor.name.encode()
    group.attrs["sensor_width"] = sensor.width
    group.attrs["sensor_height"] = sensor.height
    group.attrs["sensor_name"] = np.array(name, f"S{max(len(name), 1)}")  # text of variable length may be read for ever
    group.attrs["sensor_inferred"] = sensor.inferred


def read_sensor(group: Any) -> Sensor | None:
    """Return what `write_sensor` noted; None where it did not.

    Raises:
        FormatError: The name is no text of fixed length.
        EventError: The size is none of a sensor.
    """
    attributes = group.attrs
    if "sensor_width" not in attributes:
        return None
    return Sensor(
        int(attributes["sensor_width"]),
        int(attributes["sensor_height"]),
        read_text(group, "sensor_name"),
        bool(attributes["sensor_inferred"]),
    )
