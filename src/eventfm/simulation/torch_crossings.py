"""Events of pixels that were picked out, in int64 torch arithmetic: the twin of the compiled loops, without loops.

Offsets are whole microseconds after the start of the interval; distances from the reference are fixed-point numbers.
Only integers, and no quotient is rounded by the hardware: results are the same on every device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from eventfm.simulation.kernels import DROP, HOLD, SUPPRESS


def at(values: Tensor, places: Tensor) -> Tensor:
    """Return `values.ravel()[places]` for places (N,): much faster than that on the CPU."""
    return values.view(-1).index_select(0, places)


class Sent(NamedTuple):
    """Events, each column (N,)."""

    spot: Tensor
    """int64, the pixel."""
    offset: Tensor
    """int64, microseconds after the start of the interval."""
    flags: Tensor
    """int64, 2 for ON plus 1 for noise."""


def closed_form(spot: Tensor, start: Tensor, end: Tensor, threshold: Tensor, count: Tensor, duration: Tensor) -> Sent:
    """Return the events of pixels without refractory time, pixel by pixel, those of each in order of time.

    All arguments are (N,) int64: the pixels, their distances at both ends of the interval, the threshold that each
    crosses, how often (negative for OFF), and the length of its interval. The j-th event is the first microsecond at
    which j thresholds are reached.
    """
    sign = count.sign()
    number = count.abs()
    steep = ((end - start) * sign).clamp_(min=1)
    step = threshold * duration
    behind = start * sign * duration - (steep - 1)
    which = torch.repeat_interleave(number)
    first = number.cumsum(0) - number
    order = torch.arange(1, len(which) + 1, device=which.device) - at(first, which)
    way = order.mul_(at(step, which)).sub_(at(behind, which))
    offset = torch.div(way, at(steep, which), rounding_mode="trunc").clamp_(min=1)
    return Sent(at(spot, which), offset, at(sign + 1, which))


class Walkers(NamedTuple):
    """Pixels that are followed event by event through an interval, each column (N,), int64 unless told."""

    spot: Tensor
    slot: Tensor
    """Place among all pixels that were followed."""
    start: Tensor
    """Distance from the reference at the start of the interval; moves with the reference."""
    rise: Tensor
    """How much brightness rises in the interval."""
    c_pos: Tensor
    c_neg: Tensor
    duration: Tensor
    now: Tensor
    """Offset up to which everything is done."""
    hold: Tensor
    """Offset until which the pixel is held."""
    refractory: Tensor
    mode: Tensor
    """HOLD, DROP or SUPPRESS; DROP where there is no refractory time, which is the same and never waits."""
    resets: Tensor
    """bool, whether noise resets the pixel."""
    noise: Tensor
    """Next noise event of the pixel."""
    last_noise: Tensor
    """The noise event behind its last one."""


def follow(walkers: Walkers, noise_offset: Tensor, noise_polarity: Tensor) -> tuple[Sent, Tensor, Tensor]:
    """Follow pixels with refractory time or noise to the end of their interval, all of them one event at a time.

    Args:
        walkers: The pixels, with `slot` = 0 to N - 1.
        noise_offset: (M,) int64 noise events; pixel i has those from `noise[i]` to `last_noise[i]` (exclusive).
        noise_polarity: (M,) int64, 0 or 1.

    Returns:
        (events, start, hold): the events, those of one pixel in order of happening; (N,) int64 distances at the start
        of the interval from the references at its end; (N,) int64 offsets until which pixels are held.
    """
    start, hold = walkers.start.clone(), walkers.hold.clone()
    # Behind the last one stands one that is nobody's, for who has no more to look at.
    noise_offset, noise_polarity = (torch.nn.functional.pad(v, (0, 1)) for v in (noise_offset, noise_polarity))
    sent: list[Sent] = []
    some: list[Tensor] = []
    while len(walkers.spot):
        walkers, events, happened = _round(walkers, noise_offset, noise_polarity)
        start.index_copy_(0, walkers.slot, walkers.start)
        hold.index_copy_(0, walkers.slot, walkers.hold)
        sent.append(events)
        some.append(happened)
        last = walkers.noise == walkers.last_noise
        asleep = (walkers.mode != DROP) & (walkers.hold > walkers.duration)
        awake = ((walkers.noise < walkers.last_noise) | (last & ~asleep)).nonzero().squeeze(1)
        walkers = Walkers(*(column.index_select(0, awake) for column in walkers))
    if not sent:
        none = walkers.spot
        return Sent(none, none, none), start, hold
    kept = torch.cat(some).nonzero().squeeze(1)
    return Sent(*(torch.cat(column).index_select(0, kept) for column in zip(*sent, strict=True))), start, hold


def _round(w: Walkers, noise_offset: Tensor, noise_polarity: Tensor) -> tuple[Walkers, Sent, Tensor]:
    """Do one thing for each pixel: its next signal event, or else, if none comes before, its next noise event.

    Returns (pixels, one event for each, whether it was sent).
    """
    more = w.noise < w.last_noise
    until = torch.where(more, at(noise_offset, w.noise), w.duration)
    asleep = (w.mode != DROP) & (w.hold > w.now)
    wakes = asleep & (w.hold <= until)
    now = torch.where(wakes, w.hold, w.now)
    # Waking up, a pixel takes what it sees for its reference (hold), or may find itself past a threshold (suppress).
    start = torch.where(wakes & (w.mode == HOLD), -_level_at(w.rise, now, w.duration), w.start)
    level = start * w.duration + w.rise * now
    past = _side(level, w.c_pos * w.duration, w.c_neg * w.duration)
    past = torch.where(wakes & (w.mode == SUPPRESS), past, torch.zeros_like(past))
    sign = torch.where(past != 0, past, _side(start + w.rise, w.c_pos, w.c_neg))
    threshold = torch.where(sign > 0, w.c_pos, w.c_neg)
    due = _crossing(threshold - sign * start, w.rise.abs().clamp_(min=1), w.duration)
    time = torch.where(past != 0, now, torch.maximum(now, due))
    fires = (wakes | ~asleep) & (sign != 0) & (time <= until)
    signal = fires & ((w.mode != DROP) | (time >= w.hold))
    start = torch.where(fires & (w.mode != HOLD), start - sign * threshold, start)
    flash = ~fires & more & (w.hold <= until)
    reset = flash & w.resets
    start = torch.where(reset, -_level_at(w.rise, until, w.duration), start)
    now = torch.where(fires, time, until)
    hold = torch.where((signal | reset) & (w.refractory > 0), now + w.refractory, w.hold)
    flags = torch.where(fires, sign + 1, 2 * at(noise_polarity, w.noise) + 1)
    moved = w._replace(start=start, now=now, hold=hold, noise=w.noise + (~fires).long())
    return moved, Sent(w.spot, now, flags), signal | flash


def _side(level: Tensor, c_pos: Tensor, c_neg: Tensor) -> Tensor:
    """Return 1 at or above `c_pos`, -1 at or below -`c_neg`, 0 in between."""
    return (level >= c_pos).long() - (-level >= c_neg).long()


def _crossing(way: Tensor, steep: Tensor, duration: Tensor) -> Tensor:
    """Return ceil(way * duration / steep), at least 1: when brightness has gone `way` of its rise `steep`."""
    return torch.div(way.clamp(min=0) * duration + (steep - 1), steep, rounding_mode="trunc").clamp_(min=1)


def _level_at(rise: Tensor, time: Tensor, duration: Tensor) -> Tensor:
    """Return floor(rise * time / duration). A quotient is cut towards zero, on some devices whatever one asks for."""
    numerator = rise * time
    return torch.div(numerator - (numerator < 0) * (duration - 1), duration, rounding_mode="trunc")
