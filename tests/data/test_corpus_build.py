"""Corpora on disk: what they hold, that runs go on and agree, that nothing else is touched."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from eventfm.data import shards
from eventfm.data.clips import CorpusConfig
from eventfm.data.collection import open_collection
from eventfm.data.corpus import Corpus, Runner, build_corpus
from eventfm.data.manifest import MANIFEST, TABLE, read_manifest
from eventfm.data.picture_clips import PICTURE_KIND
from eventfm.data.pool import WorkerDiedError, run_here, run_in_processes, run_on_ray
from eventfm.data.table import CollectionError
from eventfm.data.video_clips import FRAMES_KIND
from eventfm.data.windows import WindowConfig, cut, frame_difference, read
from eventfm.io import WriteError, list_recordings, open_recording
from eventfm.protocols import Recording

SMALL: dict[str, Any] = {
    "motion": {"sensor": [32, 24], "duration_us": 20_000, "speed_px_s": [150, 300], "pause_probability": 0},
    "shard_clips": 2,
}


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (10, 10)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(blocks, (80, 80), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(5):
        picture(tmp_path / "pictures" / ("dog" if number % 2 else "cat") / f"{number}.png", number)
    return tmp_path / "pictures"


def build(source: Path, out: Path, run: Runner = run_here, **settings: Any) -> Corpus:
    config = CorpusConfig.parse({**SMALL, **settings})
    root, entries = PICTURE_KIND.entries(str(source), config)
    return build_corpus(out, "pictures", root, entries, config, run)


def contents(out: Path) -> dict[str, bytes]:
    """Return the visible files of a corpus."""
    return {p.name: p.read_bytes() for p in sorted(out.iterdir()) if not p.name.startswith(".")}


def recording(out: Path, name: str) -> Recording:
    for store in sorted(out.glob("*.h5")):
        if name in list_recordings(store):
            return open_recording(f"{store}::{name}")
    raise AssertionError(name)


def test_a_corpus_reads_as_a_collection(pictures: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    made = build(pictures, tmp_path / "out", num_clips=2)
    assert (made.num_clips, made.failed, made.warnings) == (10, {}, {})
    assert sorted(contents(tmp_path / "out")) == [*(f"clips-{n:05d}.h5" for n in range(5)), TABLE, MANIFEST]
    found = open_collection(tmp_path / "out", labels=tmp_path / "out" / TABLE)
    assert found.classes == ("cat", "dog")
    assert [e.label for e in found.entries] == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert found.entries[0].name == "clips-00000.h5::cat__0.png-0"
    assert (found.sensor.width, found.sensor.height, found.sensor.name) == (32, 24, "simulated")
    assert len(open_collection(tmp_path / "out").entries) == 10  # the files beside the stores are passed over
    assert not recwarn.list
    assert made.num_events == sum(e.recording.num_events for e in found.entries)
    for entry in found.entries:
        (window,) = cut(entry.recording, WindowConfig(by="frames"))
        events = read(entry.recording, window)
        assert len(events) == entry.recording.num_events > 50
        assert 0 < events.t[0] <= events.t[-1] <= 20_000
        assert events.noise is None
        assert frame_difference(entry.recording, window).shape == (24, 32)


def test_flow_moves_one_frame_onto_the_next(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "out", frames_hz=300)
    tracks = recording(tmp_path / "out", "cat__0.png-0").tracks
    frames, flow, valid = tracks["frames"], tracks["flow"], tracks["valid"]
    assert frames.times.tolist() == [0, 3333, 6667, 10_000, 13_333, 16_667, 20_000]
    assert flow.times.tolist() == valid.times.tolist() == frames.times.tolist()[:-1]
    x, y = np.meshgrid(np.arange(32, dtype=np.float32), np.arange(24, dtype=np.float32))
    for i in range(6):
        u, v = flow.read(i)
        good = valid.read(i).astype(bool)
        assert flow.read(i).dtype == np.float32
        assert valid.read(i).dtype == np.uint8
        assert good.mean() > 0.7
        first, second = (frames.read(k).astype(np.float32) for k in (i, i + 1))
        moved = cv2.remap(second, x + u, y + v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        assert np.hypot(u, v)[good].mean() > 0.2
        assert np.abs(moved - first)[good].mean() < 0.35 * np.abs(second - first)[good].mean()


def test_tracks_and_sensor_as_asked_for(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "a", tracks=["frames"], pixel={"preset": "noisy", "shot_hz": 50, "c_pos": [0.1, 0.3]})
    found = recording(tmp_path / "a", "dog__1.png-0")
    assert sorted(found.tracks) == ["frames"]
    noise = found.events_by_index(0, found.num_events).noise
    assert noise is not None
    assert 0 < noise.sum() < len(noise)
    lines = [json.loads(line) for line in (tmp_path / "a" / MANIFEST).read_text().splitlines()[1:]]
    thresholds = [line["pixel"]["c_pos"] for line in lines]
    assert len(set(thresholds)) == 5
    assert all(0.1 <= c <= 0.3 for c in thresholds)
    assert {line["pixel"]["shot_hz"] for line in lines} == {50}
    assert len({line["pixel"]["seed"] for line in lines}) == 5


def test_a_clip_depends_on_itself_alone(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "a")
    build(pictures, tmp_path / "b", shard_clips="auto")
    build(pictures / "cat", tmp_path / "c", label_by="none")
    whole = lambda r: r.events_by_index(0, r.num_events).to_structured()  # noqa: E731
    for name in ("cat__0.png-0", "dog__3.png-0"):
        np.testing.assert_array_equal(whole(recording(tmp_path / "a", name)), whole(recording(tmp_path / "b", name)))
    one, other = recording(tmp_path / "a", "cat__0.png-0"), recording(tmp_path / "a", "cat__2.png-0")
    assert not np.array_equal(whole(one), whole(other))
    build(pictures, tmp_path / "d", seed=1)
    assert not np.array_equal(whole(one), whole(recording(tmp_path / "d", "cat__0.png-0")))


def test_two_workers_make_what_one_makes(pictures: Path, tmp_path: Path) -> None:
    done: list[int] = []
    config = CorpusConfig.parse(SMALL)
    root, entries = PICTURE_KIND.entries(str(pictures), config)
    here = build_corpus(tmp_path / "here", "pictures", root, entries, config, run_here, done.append)
    assert done[0] == 0
    assert done[-1] == 5
    assert sorted(done) == done
    two = build(pictures, tmp_path / "two", partial(run_in_processes, num_workers=2))
    assert contents(tmp_path / "here") == contents(tmp_path / "two")
    assert (here.num_events, here.num_clips) == (two.num_events, two.num_clips)


def test_ray_makes_what_one_process_makes(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import pool_work

    monkeypatch.setitem(sys.modules, "ray", pool_work.FakeRay())
    build(pictures, tmp_path / "here")
    build(pictures, tmp_path / "ray", partial(run_on_ray, address="auto"))
    assert contents(tmp_path / "here") == contents(tmp_path / "ray")


def test_the_same_again_does_nothing(pictures: Path, tmp_path: Path) -> None:
    first = build(pictures, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.h5")}
    asked: list[Any] = []

    def none(work: Any, tasks: Any, tick: Any) -> Any:
        asked.extend(tasks)
        return run_here(work, tasks, tick)

    assert build(pictures, tmp_path / "out", none) == first
    assert not asked
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_store_that_is_gone_or_cut_is_made_again(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "out")
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "clips-00000.h5").unlink()
    (tmp_path / "out" / "clips-00001.h5").write_bytes(b"\x89HDF")
    (tmp_path / "out" / TABLE).unlink()
    build(pictures, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


def test_another_config_is_refused(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(CollectionError, match="another config: num_clips is 1 there and 2 here; choose another folder"):
        build(pictures, tmp_path / "out", num_clips=2)
    longer = {**SMALL["motion"], "duration_us": 30_000}
    with pytest.raises(CollectionError, match=r"motion\.duration_us is 20000 there and 30000 here"):
        build(pictures, tmp_path / "out", motion=longer)
    picture(pictures / "cat" / "9.png", 9)
    with pytest.raises(CollectionError, match="the sources are others: 5 clips there, 6 here"):
        build(pictures, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_foreign_files_stay(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("notes.txt", ".hidden", "other.h5", ".clips.part"):
        (out / name).write_text("mine")
    build(pictures, out)
    assert {(out / name).read_text() for name in ("notes.txt", ".hidden", "other.h5", ".clips.part")} == {"mine"}
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "clips-00001.h5").write_text("mine")
    with pytest.raises(CollectionError, match=r"holds clips-00001\.h5, which is not of this corpus"):
        build(pictures, taken)
    assert contents(taken) == {"clips-00001.h5": b"mine"}
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CollectionError, match="expected a folder to write to"):
            build(pictures, out)


def test_pictures_that_cannot_be_read_do_not_stop_the_rest(pictures: Path, tmp_path: Path) -> None:
    good = (pictures / "cat" / "2.png").read_bytes()
    (pictures / "cat" / "2.png").write_bytes(good[:30])
    made = build(pictures, tmp_path / "out")
    assert made.num_clips == 4
    assert list(made.failed) == ["cat__2.png-0"]
    assert "cannot be read as a picture" in made.failed["cat__2.png-0"]
    assert len(open_collection(tmp_path / "out", labels=tmp_path / "out" / TABLE).entries) == 4
    assert build(pictures, tmp_path / "out") == made  # tried again, with the same end
    (pictures / "cat" / "2.png").write_bytes(good)
    assert build(pictures, tmp_path / "out").failed == {}
    build(pictures, tmp_path / "straight")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_a_shard_of_failures_leaves_no_store(pictures: Path, tmp_path: Path) -> None:
    for name in ("cat/0.png", "cat/2.png"):
        (pictures / name).write_text("words")
    made = build(pictures, tmp_path / "out")
    assert len(made.failed) == 2
    assert not (tmp_path / "out" / "clips-00000.h5").exists()
    assert len(open_collection(tmp_path / "out").entries) == 3


def test_stopping_at_the_first_failure(pictures: Path, tmp_path: Path) -> None:
    (pictures / "cat" / "0.png").write_text("words")
    config = CorpusConfig.parse(SMALL)
    root, entries = PICTURE_KIND.entries(str(pictures), config)
    with pytest.raises(CollectionError, match=r"cat__0\.png-0: .* cannot be read as a picture"):
        build_corpus(tmp_path / "out", "pictures", root, entries, config, run_here, stop_at_failure=True)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_manifest_makes_the_same_corpus(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "out", num_clips=2, pixel="noisy")
    header, config, entries = read_manifest(tmp_path / "out" / MANIFEST)
    assert header.num_clips == len(entries) == 10
    build_corpus(tmp_path / "again", header.kind, Path(header.root), entries, config, run_here)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    (pictures / "dog" / "3.png").write_bytes((pictures / "dog" / "1.png").read_bytes())
    made = build_corpus(tmp_path / "other", header.kind, Path(header.root), entries, config, run_here)
    assert list(made.failed) == ["dog__3.png-0", "dog__3.png-1"]
    assert "another picture than the manifest says" in made.failed["dog__3.png-0"]


@pytest.mark.parametrize("text", ["", "words", '{"corpus": {}}', '{"corpus": 3}\n', '{"a": 1}'])
def test_a_damaged_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(CollectionError, match="line 1"):
        read_manifest(tmp_path / MANIFEST)


def test_a_second_run_is_kept_out(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")

    def nested(work: Any, tasks: Any, tick: Any) -> Any:
        with pytest.raises(CollectionError, match="another run is writing"):
            build(pictures, tmp_path / "out")
        return run_here(work, tasks, tick)

    assert build(pictures, tmp_path / "out", nested).num_clips == 5


def test_what_a_killed_run_left_is_swept_away(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{shards.SCRATCH}xyz").mkdir()
    (out / f"{shards.SCRATCH}xyz" / "t").touch()
    (out / ".clips-00001.h5.123-ab.part").touch()
    build(pictures, out)
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [shards.NOTES]
    assert not [p for p in (out / shards.NOTES).iterdir() if p.suffix in (".part", ".now")]


def test_a_system_that_refuses_stops_the_run_and_keeps_what_is_done(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = shards.save_recordings

    def full(path: Path, recordings: Any, *rest: Any, **more: Any) -> Path:
        if path.name == "clips-00001.h5":
            raise WriteError(f"could not write {path}: No space left on device")
        return plain(path, recordings, *rest, **more)

    monkeypatch.setattr(shards, "save_recordings", full)
    with pytest.raises(WriteError, match="No space left"):
        build(pictures, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["clips-00000.h5"]
    monkeypatch.undo()
    build(pictures, tmp_path / "out")
    build(pictures, tmp_path / "straight")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def frame_folder(folder: Path, values: list[int]) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    texture = cv2.resize(rng.integers(0, 200, (6, 12)).astype(np.uint8), (60, 24), interpolation=cv2.INTER_CUBIC)
    for number, value in enumerate(values):
        frame = texture[:, 3 * number : 3 * number + 32].copy()
        frame[0, 0] = value
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    (folder / "timestamps.txt").write_text("".join(f"{0.1 + number / 30:.6f}\n" for number in range(len(values))))
    return folder


def test_a_worker_that_dies_takes_one_clip_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    for number, values in enumerate(([0, 0, 0], [255, 0, 255], [0, 0, 0])):
        frame_folder(tmp_path / "frames" / f"s{number}", values)
    config = CorpusConfig.parse({"video": {"interpolator": "pool_work:brittle"}, "shard_clips": 3})
    root, entries = FRAMES_KIND.entries(str(tmp_path / "frames"), config)
    run = partial(run_in_processes, num_workers=1)
    made = build_corpus(tmp_path / "out", "frames", root, entries, config, run)
    assert made.num_clips == 2
    assert list(made.failed) == ["s1-0"]
    assert "its process was ended by SIGKILL" in made.failed["s1-0"]
    assert list_recordings(tmp_path / "out" / "clips-00000.h5") == ["s0-0", "s2-0"]
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith((".clips", shards.SCRATCH))]


def test_deaths_that_nobody_can_explain_stop_the_run(pictures: Path, tmp_path: Path) -> None:
    def dying(work: Any, tasks: Any, tick: Any) -> Any:
        from eventfm.data.pool import Outcome

        for task in tasks:
            yield Outcome(task, error=WorkerDiedError("its process ended"))

    with pytest.raises(CollectionError, match=r"clips-00000\.h5 could not be made, and no clip is to blame"):
        build(pictures, tmp_path / "out", dying)


def test_frames_become_events_between_them(tmp_path: Path) -> None:
    folder = frame_folder(tmp_path / "s", [0] * 6)
    config = CorpusConfig.parse({"video": {"interpolator": "flow"}})
    root, entries = FRAMES_KIND.entries(str(folder), config)
    made = build_corpus(tmp_path / "out", "frames", root, entries, config, run_here)
    assert (made.num_clips, made.warnings) == (1, {})
    found = open_recording(f"{tmp_path / 'out' / 'clips-00000.h5'}::s-0")
    frames = found.tracks["frames"]
    assert frames.times.tolist() == [round((0.1 + n / 30) * 1e6) for n in range(6)]
    assert found.t_range[0] > frames.times[0]
    assert found.t_range[1] <= frames.times[-1]
    assert found.num_events > 500
    assert len(np.unique(found.events_by_index(0, found.num_events).t)) > 100  # not in heaps at the frames
    (line,) = map(json.loads, (tmp_path / "out" / MANIFEST).read_text().splitlines()[1:])
    assert line["sensor"] == [32, 24]
    (folder / "timestamps.txt").write_text("".join(f"{t:.6f}\n" for t in (0.1, 0.133333, 0.166667, 0.2, 0.5, 0.533333)))
    slow = CorpusConfig.parse({"frames_hz": 10, "tracks": ["frames"]})
    made = build_corpus(tmp_path / "plain", "frames", root, entries, slow, run_here)
    assert "px/frame" in made.warnings["s-0"][0]
    plain = open_recording(f"{tmp_path / 'plain' / 'clips-00000.h5'}::s-0")
    # One in every tenth of a second, also after a pause, and in spite of rounded times.
    assert plain.tracks["frames"].times.tolist() == [100_000, 200_000, 500_000]
