"""Curation of a run's windows: what is spoilt is left out of both sets, by name and reason, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_curation import SIZE, film
from trio_files import write_sequence

from eventfm.data import curation
from eventfm.data.build import DataConfig, Samples, build_samples, open_source
from eventfm.data.collection import Collection, Entry
from eventfm.data.curated import curate_windows, merged
from eventfm.data.curation import Curated, CurationConfig, Drop
from eventfm.data.opening import Source
from eventfm.data.scenes import TeacherInput
from eventfm.data.table import CollectionError
from eventfm.data.windows import Window, WindowConfig, WindowError
from eventfm.events import Events
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, save_recording
from eventfm.representations import EventVolume, VoxelGrid

CUT: dict[str, Any] = {"window": {"by": "frame", "duration_us": 40_000}, "holdout": 0.0, "target": "none"}


def recording(frames: list[np.ndarray] | None = None) -> ArrayRecording:
    """Return the three pairs of `film` as one recording of 40 ms after each frame."""
    pairs = film()
    columns = [np.concatenate([getattr(pair.events, name) for pair in pairs]) for name in "xytp"]
    events = Events.checked(*columns, pairs[0].events.sensor)
    times = [pair.events.window[0] for pair in pairs]  # type: ignore[index]
    return ArrayRecording(events, {"frames": ArrayTrack(times, frames or [pair.frame for pair in pairs])})


def built(*recordings: ArrayRecording, **values: Any) -> Samples:
    config = DataConfig.parse({"path": "films", **CUT, **values})
    entries = tuple(Entry(f"film{number}", one) for number, one in enumerate(recordings))
    source = Source(recordings[0].sensor, Collection(entries))
    return build_samples(source, config, VoxelGrid(2), VoxelGrid(1), SIZE)


def frames_of(samples: Any) -> list[tuple[int, int]]:
    return [(number, window.frames[0]) for number, window in samples.windows]


def test_what_is_spoilt_is_left_out_and_nothing_else() -> None:
    pictures = [pair.frame for pair in film()]
    spoilt = recording([pictures[0], pictures[1] // 64, np.roll(pictures[2], 12, axis=1)])
    samples = built(recording(), spoilt, curate={})
    assert frames_of(samples.training) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    found = samples.curated
    assert found is not None
    assert found.kept == ["film0/000000", "film0/000001", "film0/000002", "film1/000000"]
    assert [(drop.name, drop.reason) for drop in found.dropped] == [
        ("film1/000001", "under_exposed"),
        ("film1/000002", "misaligned"),
    ]
    assert built(recording(), spoilt, curate={}).curated == found
    unasked = built(recording(), spoilt)
    assert (len(unasked.training), unasked.curated) == (6, None)


def test_windows_that_end_at_their_frame_are_judged_by_its_time() -> None:
    pictures = [pair.frame for pair in film()]
    late = ArrayRecording(
        recording().events(*(film()[0].events.window or (0, 0))), {"frames": ArrayTrack([59_999], [pictures[1]])}
    )
    window = {"by": "frame", "duration_us": 30_000, "frame_at": "end"}
    assert len(built(late, curate={}, window=window).training) == 1
    wrong = ArrayRecording(late.events(0, 10**6), {"frames": ArrayTrack([59_999], [np.roll(pictures[1], 9, axis=0)])})
    with pytest.raises(WindowError, match="1 misaligned"):
        built(wrong, curate={}, window=window)


def test_held_out_windows_are_no_duplicates_of_training_windows() -> None:
    pictures = [pair.frame for pair in film()]
    again = recording([pictures[0], pictures[1], pictures[1]])
    with pytest.warns(UserWarning, match="nothing is held out: data.curate leaves out all 1 held-out windows"):
        samples = built(again, curate={"max_misalignment": None}, holdout=0.3)
    assert frames_of(samples.training) == [(0, 0), (0, 1)]
    assert samples.held_out is None
    assert samples.curated is not None
    assert samples.curated.dropped == [Drop("film0/000002", "duplicate", 0.0, 0.02)]
    fine = built(recording(), curate={}, holdout=0.3)
    assert frames_of(fine.held_out) == [(0, 2)]


def test_scores_are_remembered_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    curation._SCORES.clear()
    first = built(recording(), curate={}).curated
    asked = []

    def once_more(*what: Any) -> Any:
        asked.append(what)
        return replace(real(*what), score=-7.0)

    real = curation.misalignment
    monkeypatch.setattr(curation, "misalignment", once_more)
    assert built(recording(), curate={}).curated == first
    assert not asked
    # One grey level of one pixel, or one event less, is another pair.
    pictures = [pair.frame.copy() for pair in film()]
    pictures[1][5, 5] += 1
    built(recording(pictures), curate={})
    assert len(asked) == 1
    whole = recording()
    short = ArrayRecording(whole.events_by_index(1, whole.num_events), whole.tracks)
    built(short, curate={})
    assert len(asked) == 2


class Torn(ArrayTrack):
    """A track whose second frame is damaged."""

    def read(self, i: int) -> np.ndarray:
        if i == 1:
            raise FormatError("it is torn")
        return super().read(i)


def test_frames_that_cannot_be_read_are_left_out_and_noted() -> None:
    whole = recording()
    torn = ArrayRecording(
        whole.events(0, 10**6), {"frames": Torn(whole.tracks["frames"].times, [pair.frame for pair in film()])}
    )
    samples = built(torn, curate={})
    assert frames_of(samples.training) == [(0, 0), (0, 2)]
    assert samples.problems == {"film0, frame 1": "cannot be read: it is torn"}


def test_errors_say_what_to_do() -> None:
    with pytest.raises(
        WindowError,
        match=r"leaves out all 3 training windows \(3 few_events, e.g. film0/000000: few_events .*limit is 900.*curate",
    ):
        built(recording(), curate={"min_events": 900})
    with pytest.raises(WindowError, match=r"data.window.by=frame, or leave data.curate out"):
        built(recording(), curate={}, window=WindowConfig(duration_us=40_000).model_dump(), target="events")
    with pytest.raises(WindowError, match="as large as the sensor, 128x96"):
        built(recording([pair.frame[::2] for pair in film()]), curate={})


def test_only_recordings_can_be_asked(tmp_path: Path) -> None:
    write_sequence(tmp_path / "s0", 3)
    config = DataConfig.parse({"path": str(tmp_path), "curate": {}})
    with pytest.raises(CollectionError, match="no recordings; leave it out"):
        build_samples(open_source(config), config, VoxelGrid(3), VoxelGrid(1), SIZE)


def test_parts_of_a_mixture_are_told_apart_by_name() -> None:
    config = CurationConfig(max_dark=0.5)
    one = Curated(["x/0"], [Drop("x/1", "blurred", 3.0, 2.5)], config)
    two = Curated(["x/0"], [Drop("x/2", "few_events", 0.0, 0.01), Drop("x/3", "few_events", 0.004, 0.01)], config)
    found = merged({"a": one, "b": two, "stored": None})
    assert found is not None
    assert found.kept == ["a/x/0", "b/x/0"]
    assert [drop.name for drop in found.dropped] == ["a/x/1", "b/x/2", "b/x/3"]
    card = found.card()
    assert card["sources"]["b/x"] == {"kept": 1, "dropped": {"few_events": 2}}
    assert card["limits"]["max_dark"] == 0.5
    assert card["left_out"][0] == {"name": "a/x/1", "reason": "blurred", "figure": 3.0, "limit": 2.5}
    assert [drop.figure for drop in found.worst("few_events", 1)] == [0.0]
    assert merged({"stored": None}) is None


def test_a_mixture_asks_its_recordings_only(tmp_path: Path) -> None:
    write_sequence(tmp_path / "stored/s0", 3)
    pictures = [pair.frame for pair in film()]
    save_recording(tmp_path / "film.h5", recording([pictures[0], pictures[1] // 64, pictures[2]]))
    sources = [{"path": str(tmp_path / name)} for name in ("film.h5", "stored")]
    config = DataConfig.parse({**CUT, "sources": sources, "curate": {}})
    coding = EventVolume(coding="imagenet")
    with pytest.warns(UserWarning, match="asks about recordings only: stored are used as they are"):
        samples = build_samples(open_source(config), config, coding, VoxelGrid(1), (24, 32), TeacherInput((12, 16)))
    assert len(samples.training) == 2 + 3
    assert samples.curated is not None
    assert [drop.name for drop in samples.curated.dropped] == ["film.h5/film.h5/000001"]


def test_the_order_of_windows_is_kept() -> None:
    """Windows come back in the order that they were given in, though they are judged in the order of time."""
    whole = recording()
    times = whole.tracks["frames"].times.tolist()
    windows = [(0, Window(times[i], times[i] + 40_000, frames=(i, i))) for i in (2, 0, 1)]
    fit = curate_windows(Collection((Entry("", whole),)), CurationConfig(), windows, [], "film.h5")
    assert fit.training == windows
    assert fit.curated.kept == ["film.h5/000000", "film.h5/000001", "film.h5/000002"]
