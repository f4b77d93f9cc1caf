"""The triggers among the words of RAW files, from encoders that write them by the layout."""

import pickle

import pytest
from fuzzing import fuzz
from prophesee_files import evt2, evt3, evt21, rows_of

from eventfm.io import FormatError, open_recording

TRIGGERS = ((1_500, 1, 0), (30_000, 0, 3), (30_000, 1, 6))
HEADER = b"% evt 2.0\n% geometry 40x30\n"
CODINGS = {
    "evt2": (HEADER, evt2),
    "evt21": (b"% format EVT21;endianness=little;height=30;width=40\n% end\n", evt21),
    "evt21_legacy": (
        b"% integrator_name Prophesee\n% system_ID 41\n% evt 2.1\n% geometry 40x30\n",
        lambda rows, triggers=(): evt21(rows, triggers, legacy=True),
    ),
    "evt3": (b"% evt 3.0\n% format EVT3;height=30;width=40\n% end\n", evt3),
}


def rows(track):
    return [(int(t), *track.read(i).tolist()) for i, t in enumerate(track.times)]


@pytest.mark.parametrize("coding", CODINGS)
def test_triggers_stand_beside_the_events(coding, make_events, assert_contract, tmp_path, monkeypatch):
    monkeypatch.setattr("eventfm.io.raw._BLOCK_BYTES", 256)
    events = make_events()
    header, encode = CODINGS[coding]
    path = tmp_path / "a.raw"
    path.write_bytes(header + encode(rows_of(events), TRIGGERS))
    recording = open_recording(path)
    assert_contract(recording, events)
    track = pickle.loads(pickle.dumps(recording)).tracks["triggers"]
    assert len(track) == 3
    assert rows(track) == list(TRIGGERS)
    assert track.read(0).dtype == track.times.dtype == "int64"


def test_triggers_alone_or_none(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(HEADER + evt2([], TRIGGERS))
    recording = open_recording(path)
    assert (recording.num_events, recording.t_range) == (0, (0, -1))
    assert rows(recording.tracks["triggers"]) == list(TRIGGERS)
    path.write_bytes(HEADER + evt2([(1, 2, 3, 1)]))
    assert not open_recording(path).tracks


def test_triggers_whose_times_go_back_are_refused_or_mended(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(HEADER + evt2([], [(500, 1, 2)]) + evt2([], [(400, 0, 1)]))
    with pytest.raises(FormatError, match="1 do not"):
        _ = open_recording(path).tracks["triggers"].times
    assert rows(open_recording(path, on_error="sort").tracks["triggers"]) == [(400, 0, 1), (500, 1, 2)]


def test_a_file_that_changes_meanwhile_is_refused(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(HEADER + evt2([], TRIGGERS))
    track = open_recording(path).tracks["triggers"]
    path.write_bytes(HEADER + evt2([], TRIGGERS[:1]))
    with pytest.raises(FormatError, match="expected 3 triggers, got 1; open it again"):
        _ = track.times


def test_data_that_begin_with_the_byte_of_a_header_are_data(tmp_path):
    # The first word of the time ends in 0x25, which is "%"; old headers do not say where they end.
    events = [(1, 2, 0x25 << 6, 1), (3, 4, (0x25 << 6) + 10, 0), (5, 6, 0x0A25 << 6, 1)]
    path = tmp_path / "a.raw"
    for before, hint in ((HEADER, None), (b"", "evt2")):
        path.write_bytes(before + evt2(events))
        assert rows_of(open_recording(path, format=hint, sensor=(40, 30)).events_by_index(0, 3)) == events


@pytest.mark.parametrize("coding", ["evt2", "evt21", "evt3"])
def test_damage_is_survived(coding, make_events, tmp_path):
    header, encode = CODINGS[coding]
    content = header + encode(rows_of(make_events(count=40)), TRIGGERS * 5)
    assert 0 < fuzz(content, tmp_path, "raw", 150, len(header)) < 130
