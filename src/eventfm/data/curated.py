"""The windows of a run after curation: those whose events and frame do not fit are left out before it begins."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from eventfm.data.collection import Collection, Entry
from eventfm.data.curation import Curated, CurationConfig, Pair, curate
from eventfm.data.problems import UnreadableError, reading
from eventfm.data.scenes import Frame
from eventfm.data.windows import Window, WindowError, read

Numbered = tuple[int, Window]
"""Number of the recording, and a window in it."""


class Fit(NamedTuple):
    """What curation leaves of windows."""

    training: list[Numbered]
    held_out: list[Numbered]
    curated: Curated
    unreadable: dict[str, str]
    """Frames that cannot be read, and why, by name; their windows are left out too."""


def curate_windows(
    collection: Collection, config: CurationConfig, training: list[Numbered], held_out: list[Numbered], whole: str = ""
) -> Fit:
    """Return the windows by frame that are fit to learn from, in the order that they came in.

    A window is judged by all of its events and by its frame, as `curation.curate` says: in the order of time, training
    and held-out windows together, so that neither holds a duplicate of the other's. `whole` names a collection that is
    one recording without a name. A bar shows on a terminal, for a pair takes up to a tenth of a second.

    Raises:
        WindowError: The windows are not by frame, no training window is left, or frames are not of the sensor's size.
    """
    windows = training + held_out
    if any(window.frames is None or window.frames[0] != window.frames[1] for _, window in windows):
        raise WindowError(
            "data.curate asks whether events and their frame belong together, and needs windows by frame; give "
            "data.window.by=frame, or leave data.curate out"
        )
    places = sorted(windows, key=lambda place: (place[0], _frame(place[1])))
    unreadable: dict[str, str] = {}
    result = curate(_pairs(collection, places, whole, unreadable), config)
    kept = set(result.kept)

    def fit(some: Iterable[Numbered]) -> list[Numbered]:
        return [(n, window) for n, window in some if _name(collection.entries[n], window, whole) in kept]

    left = Fit(fit(training), fit(held_out), result, unreadable)
    if not left.training:
        raise WindowError(_nothing_left(result, len(training), unreadable))
    if held_out and not left.held_out:
        warnings.warn(f"nothing is held out: data.curate leaves out all {len(held_out)} held-out windows", stacklevel=4)
    return left


def merged(parts: dict[str, Curated | None]) -> Curated | None:
    """Return what was kept and left out of several parts, each source inside its part's name; None of none."""
    found = [part.inside(name) for name, part in parts.items() if part is not None]
    if not found:
        return None
    return Curated(
        [n for part in found for n in part.kept], [d for part in found for d in part.dropped], found[0].config
    )


def _pairs(collection: Collection, places: list[Numbered], whole: str, unreadable: dict[str, str]) -> Iterator[Pair]:
    console = Console(stderr=True)
    # Every rank of a run judges for itself and comes to the same; one of them says how far it is.
    hidden = not console.is_terminal or os.environ.get("RANK", "0") != "0"
    for number, window in track(places, "curation", console=console, disable=hidden, transient=True):
        entry, frame_number = collection.entries[number], _frame(window)
        frames = entry.recording.tracks["frames"]
        try:
            with reading(Frame(entry, frame_number).name):
                frame = frames.read(frame_number)
        except UnreadableError as error:
            unreadable[error.name] = error.reason
            continue
        name = _name(entry, window, whole)
        yield Pair(name, read(entry.recording, window), frame, int(frames.times[frame_number]))


def _frame(window: Window) -> int:
    assert window.frames is not None
    return window.frames[0]


def _name(entry: Entry, window: Window, whole: str) -> str:
    return f"{entry.name or whole}/{_frame(window):06d}"


def _nothing_left(result: Curated, count: int, unreadable: dict[str, str]) -> str:
    reasons = Counter(drop.reason for drop in result.dropped)
    said = [f"{number} {reason}" for reason, number in reasons.most_common()]
    said += [f"{len(unreadable)} with a frame that cannot be read"] if unreadable else []
    example = ""
    if result.dropped:
        worst = result.dropped[0]
        example = f", e.g. {worst.name}: {worst.reason} {worst.figure:.3g}, where the limit is {worst.limit:.3g}"
    return (
        f"nothing is left to train on: data.curate leaves out all {count} training windows ({', '.join(said)}"
        f"{example}); raise or lower the limits of data.curate (null leaves a question unasked), or give "
        "data.curate=null"
    )
