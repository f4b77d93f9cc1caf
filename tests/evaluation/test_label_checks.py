"""Labels that are tested on: one digest for one set of data and labels, and mistakes found before scoring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eventfm.data.collection import Collection, Entry
from eventfm.data.table import CollectionError
from eventfm.data.targets import LabelError
from eventfm.data.windows import Window, WindowConfig, cut
from eventfm.evaluation.label_checks import labelled_digest, numbered_as, read_labels
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack

NUM_MAPS = 120
WANTED = ("semantic", "seen")


def recording(bad_map: int | None = None, seed: int = 0, shift_us: int = 0) -> ArrayRecording:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 60_000, 500))
    events = Events.checked(rng.integers(0, 8, 500), rng.integers(0, 8, 500), t, rng.random(500) < 0.5, Sensor(8, 8))
    maps = np.zeros((NUM_MAPS, 8, 8), np.uint8)
    if bad_map is not None:
        maps[bad_map, 3, 4] = 9
    track = ArrayTrack(np.arange(NUM_MAPS) * 500 + shift_us, maps)
    return ArrayRecording(events, {"semantic": track})


def collection(**kind: int) -> Collection:
    entries = (Entry("a", recording(), label=0, split="train"), Entry("b", recording(seed=1, **kind), label=1))
    return Collection(entries, ("down", "right"))


def windows_of(found: Collection) -> list[tuple[int, Window]]:
    config = WindowConfig(by="frame", track="semantic", duration_us=400)
    return [(n, window) for n, entry in enumerate(found.entries) for window in cut(entry.recording, config)]


def digest(found: Collection, wanted: tuple[str, ...] = WANTED) -> str:
    return labelled_digest(found, wanted, windows_of(found))


@pytest.mark.parametrize(
    "change",
    [
        lambda: collection(bad_map=77),
        lambda: collection(shift_us=1),
        lambda: replace(collection(), entries=collection().entries[:1]),
        lambda: replace(collection(), entries=(*collection().entries[:1], Entry("c", recording(seed=1)))),
        lambda: replace(collection(), entries=(*collection().entries[:1], Entry("b", recording(seed=2)))),
    ],
    ids=["one pixel of one map", "times of maps", "a recording less", "a name", "events"],
)
def test_other_data_or_labels_have_another_digest(change: Callable[[], Collection]) -> None:
    assert digest(collection()) == digest(collection())
    assert digest(change()) != digest(collection())


def test_windows_and_names_of_classes_have_a_digest_of_their_own() -> None:
    found = collection()
    assert labelled_digest(found, WANTED, windows_of(found)[1:]) != digest(found)
    renamed = replace(found, classes=("down", "up"))
    assert digest(renamed, ("label",)) != digest(found, ("label",))
    assert digest(renamed) == digest(found), "of pixels, classes of recordings are no matter"
    assert digest(collection(bad_map=77), ("label",)) == digest(found, ("label",))


def test_every_map_is_read_before_anything_is_scored() -> None:
    found = collection(bad_map=77)
    read_labels(found, WANTED, windows_of(found), 10)
    read_labels(found, ("label",), windows_of(found), 2)
    with pytest.raises(LabelError, match="b, semantic at 38500 us: expected classes from 0 to 1"):
        read_labels(found, WANTED, windows_of(found), 2)


def test_labels_are_numbered_by_the_names_of_a_model() -> None:
    found = numbered_as(collection(), ("left", "right", "down"))
    assert [entry.label for entry in found.entries] == [2, 1]
    assert found.classes == ("left", "right", "down")
    unlabelled = replace(collection(), entries=(Entry("a", recording()),))
    assert numbered_as(unlabelled, ("left",)).entries[0].label is None
    with pytest.raises(CollectionError, match=r"1 of 2 test recordings .* e\.g\. 'b' of 'right'; it has down, left"):
        numbered_as(collection(), ("down", "left"))
