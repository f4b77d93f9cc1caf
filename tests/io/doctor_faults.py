"""A recording without faults, and recordings that have one of a known size."""

import numpy as np

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording

SENSOR = Sensor(64, 48)


def columns(count=60_000, span_us=2_000_000, seed=0):
    """Return x, y, t, p of events that lie evenly over the sensor and the time, both ends included."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.choice(span_us, count, replace=False)).astype(np.int64)
    t[0], t[-1] = 0, span_us - 1
    x, y = rng.integers(0, SENSOR.width, count), rng.integers(0, SENSOR.height, count)
    return x.astype(np.uint16), y.astype(np.uint16), t, rng.integers(0, 2, count).astype(np.uint8)


def recording(x, y, t, p, tracks=None, sensor=SENSOR, noise=None):
    """Return a recording of the columns as they are: `Events` itself checks nothing."""
    return ArrayRecording(Events(x, y, t, p, sensor, noise=noise), tracks)


def insert(where, column, values):
    """Return `column` with `values` before the positions `where`, in its own type."""
    return np.insert(column, where, np.asarray(values).astype(column.dtype))


def with_hot_pixel(x, y, t, p, at, total):
    """Return the columns with as many events more at the pixel `at` as make `total`, spread over the recording."""
    more = total - int(((x == at[0]) & (y == at[1])).sum())
    places = np.linspace(10, len(t) - 10, more).astype(int)
    values = ([at[0]] * more, [at[1]] * more, t[places] - 1, np.arange(more) % 2)
    return [insert(places, column, value) for column, value in zip((x, y, t, p), values, strict=True)]
