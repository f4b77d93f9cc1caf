"""Compiled loops of the change detector: find the events of one frame interval.

Everything is integer arithmetic in fixed point, so results do not depend on the machine, the compiler or the chunking.

Inside one interval of length D brightness runs straight, and with it the distance d from the reference, from d0 to d1.
An event is stamped with the first whole microsecond at which a threshold is reached: the k-th ON event without
refractory time at ceil((k C - d0) D / (d1 - d0)). The level is tested, never "a crossing lies in this interval", so no
pixel can get stuck.

A pixel's reference is kept as `low`, the least brightness at which it is silent, and `span`, the number of silent ones:
low = reference - c_neg + 1, span = c_pos + c_neg - 1. Then one unsigned comparison tells whether it has an event.
Leak is added to the brightness as it is read: leak * elapsed is exact at any time, and wraps around as `low` does.

Parts that a sensor does not have are passed as None; numba compiles such a kernel without them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

HOLD, DROP, SUPPRESS = 0, 1, 2

_compiled = njit(nogil=True, cache=True, error_model="numpy")
_inlined = njit(nogil=True, cache=True, error_model="numpy", inline="always")


@_compiled
def drift(leak: Any, elapsed: int) -> Any:
    """Return floor(leak elapsed / 2**18), the Q24 brightness that a Q42 leak adds up to, modulo 2**32 as an int32."""
    return np.int32((np.uint64(leak) * np.uint64(elapsed)) >> np.uint64(18))


@_compiled
def start_pixels(frame: Any, table: Any, c_pos: Any, c_neg: Any, draw: Any, low: Any) -> None:
    """Set `low` (H, W) int32 for a first frame with brightness `draw` above the reference (int32, or None for zero)."""
    height, width = frame.shape
    for y in range(height):
        for x in range(width):
            above = draw[y, x] if draw is not None else np.int32(0)
            low[y, x] = np.int32(table[frame[y, x]] - above - c_neg[y, x] + np.int32(1))


@_compiled
def filter_brightness(
    first: Any, last: Any, table: Any, e: Any, g: Any, h: Any, w: Any, before: Any, after: Any
) -> None:
    """Write the photoreceptor's state (poles, H, W) int32 after one frame interval to `after`; see `response.LowPass`.

    `first` and `last` are the frames (H, W) uint16 at its ends.
    """
    half = np.int64(1 << 29)
    two = before.shape[0] == 2
    height, width = first.shape
    for y in range(height):
        for x in range(width):
            v0, v1 = first[y, x], last[y, x]
            i = (np.int64(v0) + np.int64(v1)) >> 9
            level0, level1 = np.int64(table[v0]), np.int64(table[v1])
            lag, rise = before[0, y, x] - level0, level1 - level0
            after[0, y, x] = np.int32(level1 + ((e[i] * lag - g[i] * rise + half) >> 30))
            if two:
                lag2 = before[1, y, x] - level0
                after[1, y, x] = np.int32(level1 + ((e[i] * lag2 + h[i] * lag - w[i] * rise + half) >> 30))


@_inlined
def _event_time(way: int, rise: int, inverse: float, duration: int) -> int:
    """Return ceil(way * duration / rise), exactly: when brightness has gone `way` of its `rise`; `inverse` = 1 / rise.

    With rises below 2**31 and durations below 2**30 the quotient in float64 is off by less than half of what is added
    to it; so its whole part is the ceiling or one less. The answer lies in [1, duration] by itself for a state that
    followed its frames; a state which did not shall not make the sort write outside its memory.
    """
    numerator = way * duration
    time = np.int64(numerator * inverse + 1e-6)
    time += np.int64(time * rise < numerator)
    return np.int64(min(np.uint64(time), np.uint64(duration)))


@_inlined
def _level_at(rise: int, time: int, duration: int, inverse: float) -> int:
    """Return floor(rise * time / duration), exactly; `inverse` = 1 / duration.

    As in `_event_time`: the float64 quotient, made positive, gives the floor or one less.
    """
    numerator = rise * time
    level = np.int64(numerator * inverse + (8589934592.0 - 4e-6)) - 8589934592
    return level + np.int64((level + 1) * duration <= numerator)


@_inlined
def _next_after_hold(
    d0: int, rise: int, duration: int, per_us: float, c_pos: int, c_neg: int, hold: int
) -> tuple[int, int, int]:
    """Return (sign or 0, time, d0) of the first event of a pixel that wakes up at `hold` (or was awake, if <= 0).

    Waking, a pixel takes what it sees for its reference, which moves d0. No branches: nobody can foresee them.
    """
    woken = -_level_at(rise, max(hold, 0), duration, per_us)
    d0 = woken if hold > 0 else d0
    d1 = d0 + rise
    sign = np.int64(d1 >= c_pos) - np.int64(-d1 >= c_neg)
    way = (c_pos if d1 > 0 else c_neg) - (d0 if d1 > 0 else -d0)
    steep = max(abs(rise), 1)
    return sign, max(_event_time(way, steep, 1.0 / steep, duration), hold), d0


@_compiled
def _step_by_step(
    d0: int,
    rise: int,
    duration: int,
    c_pos: int,
    c_neg: int,
    hold: int,
    refractory: int,
    mode: int,
    offsets: Any,
    polarities: Any,
    noise: int,
    last_noise: int,
    resets: bool,
    place: Any,
    keys: Any,
    num_keys: int,
) -> tuple[int, int, int]:
    """Follow one pixel through an interval with refractory time and noise, event by event.

    `hold` is the offset until which the pixel is held, 0 or less if it is not; noise events `noise` to `last_noise`
    (exclusive) are this pixel's. Returns (keys used, how far the reference moved, hold).
    """
    start = d0
    now = np.int64(0)
    per_us = 1.0 / duration
    for n in range(noise, last_noise + 1):
        until = offsets[n] if n < last_noise else np.int64(duration)
        while True:  # signal events up to and with `until`
            sign = np.int64(0)
            if mode != DROP and hold > now:
                if hold > until:
                    break
                now = hold
                if mode == HOLD:  # wakes up and takes what it sees for its reference
                    d0 = -_level_at(rise, now, duration, per_us)
                else:  # wakes up and finds itself past a threshold
                    level = d0 * duration + rise * now
                    sign = np.int64(level >= c_pos * duration) - np.int64(-level >= c_neg * duration)
            time = now
            if sign == 0:
                d1 = d0 + rise
                sign = np.int64(d1 >= c_pos) - np.int64(-d1 >= c_neg)
                if sign == 0:
                    break
                way = (c_pos if sign > 0 else c_neg) - sign * d0
                if way > 0:
                    time = max(now, _event_time(way, sign * rise, 1.0 / (sign * rise), duration))
                else:
                    time = max(now, 1)
                if time > until:
                    break
            if mode != DROP or refractory == 0 or time >= hold:
                keys[num_keys] = np.uint64(time) << np.uint64(34) | place | np.uint64(sign > 0) << np.uint64(1)
                num_keys += 1
                if refractory > 0:
                    hold = time + refractory
            if mode != HOLD or refractory == 0:
                d0 -= c_pos if sign > 0 else -c_neg
            now = time
        if n < last_noise and hold <= until:
            p = np.uint64(polarities[n]) << np.uint64(1) | np.uint64(1)
            keys[num_keys] = np.uint64(until) << np.uint64(34) | place | p
            num_keys += 1
            if resets:
                d0 = -_level_at(rise, until, duration, per_us)
                if refractory > 0:
                    hold = until + refractory
        now = until
    return num_keys, start - d0, hold


@_compiled
def _read_row(frame: Any, table: Any, after: Any, leak: Any, elapsed: int, level: Any) -> None:
    """Write the brightness of a row at the end of the interval, leak included, to `level`."""
    for x in range(level.shape[0]):
        level[x] = table[frame[x]] if after is None else after[x]
    if leak is not None:
        for x in range(level.shape[0]):
            level[x] += drift(leak[x], elapsed)


@_compiled
def _find_in_row(
    level: Any, low: Any, span: Any, held: Any, noise_pixel: Any, noise: int, first_pixel: int, found: Any
) -> int:
    """Write the columns of the pixels with something to do to `found` and return their number.

    Every column is written, only those that matter are counted: no branch for a single pixel.
    """
    num_found = 0
    if held is None:
        for x in range(level.shape[0]):
            found[num_found] = np.uint32(x)
            num_found += np.int64(np.uint32(np.int32(level[x] - low[x])) >= span[x])
        return num_found
    wanted, last_pixel = held, first_pixel + level.shape[0]
    if noise < noise_pixel.shape[0] and noise_pixel[noise] < last_pixel:
        wanted = held.copy()
        while noise < noise_pixel.shape[0] and noise_pixel[noise] < last_pixel:
            wanted[noise_pixel[noise] - first_pixel] = 1
            noise += 1
    for x in range(level.shape[0]):
        found[num_found] = np.uint32(x)
        past = np.uint8(np.uint32(np.int32(level[x] - low[x])) >= span[x])
        num_found += np.int64(past | wanted[x])
    return num_found


@_inlined
def _straight(
    d0: int, d1: int, threshold: int, sign: int, count: int, duration: int, place: Any, keys: Any, num_keys: int
) -> int:
    """Append the `count` events of a pixel past its threshold that neither rests nor has noise; return keys used."""
    start = sign * d0
    rise = sign * d1 - start
    inverse = 1.0 / rise
    place |= np.uint64(sign > 0) << np.uint64(1)
    keys[num_keys] = np.uint64(_event_time(threshold - start, rise, inverse, duration)) << np.uint64(34) | place
    for k in range(2, count + 1):
        offset = _event_time(k * threshold - start, rise, inverse, duration)
        keys[num_keys + k - 1] = np.uint64(offset) << np.uint64(34) | place
    return num_keys + count


@_inlined
def _by_hold(
    d0: int,
    rise: int,
    duration: int,
    per_us: float,
    c_pos: int,
    c_neg: int,
    hold: int,
    refractory: int,
    place: Any,
    keys: Any,
    num_keys: int,
) -> tuple[int, int, int]:
    """Follow one pixel without noise through an interval in mode HOLD; returns as `_step_by_step`, only faster."""
    start = d0
    crossed = hold <= duration
    while crossed:
        sign, time, d0 = _next_after_hold(d0, rise, duration, per_us, c_pos, c_neg, hold)
        keys[num_keys] = np.uint64(time) << np.uint64(34) | place | np.uint64(sign > 0) << np.uint64(1)
        num_keys += np.int64(sign != 0)
        hold = time + refractory if sign != 0 else hold
        crossed = (sign != 0) & (hold <= duration)
    return num_keys, start - d0, hold


@_compiled
def scan_interval(
    first: Any,
    last: Any,
    table: Any,
    before: Any,
    after: Any,
    low: Any,
    span: Any,
    c_neg: Any,
    leak: Any,
    elapsed: int,
    duration: int,
    hold: Any,
    held: Any,
    refractory: int,
    mode: int,
    noise_pixel: Any,
    noise_offset: Any,
    noise_polarity: Any,
    resets: bool,
    keys: Any,
    num_keys: int,
    row: int,
    column: int,
    noise: int,
) -> tuple[int, int, int, int, int]:
    """Append the events of one interval to `keys` in raster order and move `low` along.

    Args:
        first: (H, W) uint16, the frame at the start.
        last: (H, W) uint16, the frame at the end.
        table: (65536,) int32 brightness of frame values.
        before: (H, W) int32 brightness at the start, behind the photoreceptor; None = that of `first`.
        after: (H, W) int32 brightness at the end; None = that of `last`.
        low: (H, W) int32, written to.
        span: (H, W) uint32.
        c_neg: (H, W) int32 OFF thresholds.
        leak: (H, W) uint32, or None.
        elapsed: Microseconds from the first frame of all to the start of this interval.
        duration: Length of the interval, microseconds.
        hold: (H, W) int64, elapsed time until which a pixel is held, written to; None = neither hold nor noise.
        held: (H, W) uint8, 1 where it is held beyond the start of the interval, written to.
        refractory: Microseconds.
        mode: HOLD, DROP or SUPPRESS.
        noise_pixel: (N,) int64 noise events in raster order.
        noise_offset: (N,) int64, in [1, duration].
        noise_polarity: (N,) uint8.
        resets: Whether a noise event resets its pixel.
        keys: (room,) uint64, written to: time after the interval's start in the top 30 bits, then y (16), x (16),
            polarity (1), noise (1).
        num_keys: Keys used so far.
        row: Pixel to begin with.
        column: Pixel to begin with.
        noise: First noise event that is not behind that pixel.

    Returns:
        (keys used, row, column, noise, keys needed). When `keys` is too short the scan stops before that pixel: call
        again with longer `keys`.
    """
    height, width = last.shape
    level = np.empty(width, np.int32)
    found = np.empty(width + 1, np.uint32)
    per_us = 1.0 / duration
    spaced = duration // refractory if refractory > 0 and mode != DROP else 2**40
    for y in range(row, height):
        low_row, span_row = low[y], span[y]
        after_row = after[y] if after is not None else None
        leak_row = leak[y] if leak is not None else None
        held_row = held[y] if held is not None else None
        _read_row(last[y], table, after_row, leak_row, elapsed + duration, level)
        num_found = _find_in_row(level, low_row, span_row, held_row, noise_pixel, noise, y * width, found)
        for i in range(num_found):
            x = np.int64(found[i])
            if x < column:
                continue
            off = np.int64(c_neg[y, x])
            on = np.int64(span_row[x]) - off + 1
            reference = np.int32(low_row[x] + off - 1)
            start = before[y, x] if before is not None else table[first[y, x]]
            if leak is not None:
                start = np.int32(start + drift(leak_row[x], elapsed))
            d0 = np.int64(np.int32(start - reference))
            d1 = np.int64(np.int32(level[x] - reference))
            place = np.uint64(y) << np.uint64(18) | np.uint64(x) << np.uint64(2)
            stop = noise
            if hold is not None:
                while stop < noise_pixel.shape[0] and noise_pixel[stop] == y * width + x:
                    stop += 1
            if hold is None or (refractory == 0 and stop == noise):
                # ON and OFF come in no order that a processor could predict, hence a sign instead of a branch.
                sign = np.int64(1) - ((d1 < 0) << 1)
                threshold = off + (on - off) * (d1 > 0)
                count = np.int64(1) if sign * d1 < 2 * threshold else sign * d1 // threshold
                if num_keys + count > keys.shape[0]:
                    return num_keys, y, x, noise, num_keys + count
                num_keys = _straight(d0, d1, threshold, sign, count, duration, place, keys, num_keys)
                low_row[x] += np.int32(sign * count * threshold)
                noise = stop
                continue
            rise = d1 - d0
            until = hold[y, x] - elapsed
            most = 2 * (stop - noise) + 3
            most += spaced if spaced < 64 else np.int64((abs(d0) + abs(rise)) / min(on, off))
            if num_keys + most > keys.shape[0]:
                return num_keys, y, x, noise, num_keys + most
            if mode == HOLD and refractory > 0 and stop == noise:
                num_keys, moved, until = _by_hold(
                    d0, rise, duration, per_us, on, off, until, refractory, place, keys, num_keys
                )
            else:
                num_keys, moved, until = _step_by_step(
                    d0,
                    rise,
                    duration,
                    on,
                    off,
                    until,
                    refractory,
                    mode,
                    noise_offset,
                    noise_polarity,
                    noise,
                    stop,
                    resets,
                    place,
                    keys,
                    num_keys,
                )
            low_row[x] += np.int32(moved)
            hold[y, x] = until + elapsed
            held[y, x] = np.uint8(until > duration and mode != DROP)
            noise = stop
        column = 0
    return num_keys, height, 0, noise, num_keys
