"""DSEC (Gehrig et al., RA-L 2021) for pretraining: the left event camera, with frames as it sees them.

Layout: of each sequence `events/left/events.h5` with `rectify_map.h5`, `images/left/rectified/<number>.png` with the
times of its frames, and `calibration/cam_to_cam.yaml`; or what the archives of single sequences unpack to. Frames of
`images/left/distorted` (DSEC-Detection) were warped already, need no calibration, and are taken first.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.alignment import DSEC_SITE
from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.dsec import CITATION, LICENCE, left_events, rectify_map_beside
from eventfm.data.datasets.framed import BENCHMARKS, by_benchmarks, found, require_pairs
from eventfm.data.datasets.layout import Tree
from eventfm.data.dsec_sequence import Parts, open_parts
from eventfm.data.test_sequences import TEST_SEQUENCES
from eventfm.events import OnError, Sensor
from eventfm.protocols import Recording

_SENSOR = Sensor(640, 480, "DSEC")
_LETTERS = {
    "interlaken_00": "cdefg",
    "thun_00": "a",
    **{f"zurich_city_{number}": "a" for number in ("03", "06", "07", "08")},
    **{f"zurich_city_{number}": "ab" for number in ("00", "05", "10")},
    "zurich_city_01": "abcdef",
    "zurich_city_02": "abcde",
    "zurich_city_04": "abcdef",
    "zurich_city_09": "abcde",
    "zurich_city_11": "abc",
}
SEQUENCES = (
    *sorted(f"{drive}_{letter}" for drive, letters in _LETTERS.items() for letter in letters),
    *sorted(TEST_SEQUENCES["DSEC test split"]),
)
_SEQUENCE = r"(?:^|/)((?:interlaken|thun|zurich_city)_\d\d_[a-g])[/_](?:.*/)?"
_PICTURE = _SEQUENCE + r"images[/_](?:left[/_](rectified|distorted)|(rectified|distorted)[/_]left)/(\d{6})\.png$"
_TIMES = (
    _SEQUENCE + r"(?:images/left/exposure_timestamps|image_exposure_timestamps_left)\.txt$",
    _SEQUENCE + r"(?:images/timestamps|image_timestamps)\.txt$",
)
"""Those of the left camera's exposures are better than the mean of both cameras'."""
_CALIBRATION = _SEQUENCE + r"cam_to_cam\.yaml$"
_KINDS = ("distorted", "rectified")
"""Of frames, the first being taken where there are both."""


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each sequence that has all its parts."""
    events = left_events(tree)
    calibrations = {match[1].lower(): file for match, file in tree.match(_CALIBRATION)}
    times: dict[str, str] = {}
    for pattern in _TIMES:
        for match, file in tree.match(pattern):
            times.setdefault(match[1].lower(), file)
    pictures: dict[str, dict[str, dict[int, str]]] = {}
    for match, file in tree.match(_PICTURE):
        of_kind = pictures.setdefault(match[1].lower(), {}).setdefault((match[2] or match[3]).lower(), {})
        of_kind.setdefault(int(match[4]), file)
    parts, problems, seen = [], [], {*events, *times, *pictures}
    for sequence in [name for name in SEQUENCES if name in seen]:
        of_sequence = pictures.get(sequence, {})
        kind = next((kind for kind in _KINDS if kind in of_sequence), "rectified")
        needed = {"events/left/events.h5": events.get(sequence), "images/timestamps.txt": times.get(sequence)}
        if kind == "rectified":
            needed["events/left/rectify_map.h5"] = rectify_map_beside(tree, events.get(sequence))
            needed["calibration/cam_to_cam.yaml"] = calibrations.get(sequence)
        numbered = of_sequence.get(kind, {})
        absent = [name for name, file in needed.items() if file is None]
        absent += [] if numbered else [f"images/left/{kind}"]
        problems += [Problem("missing", f"{sequence}/{name}", "it is not there", CARD.download) for name in absent]
        if not absent:
            in_order = (numbered[number] for number in sorted(numbered))
            parts.append((sequence, (*(file for file in needed.values() if file is not None), *in_order)))
    whole = found(parts, by_benchmarks, {name: name for name in SEQUENCES if name not in seen}, CARD.download)
    return Found(whole.samples, (*problems, *whole.problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a sequence, its frames warped to the event camera.

    Raises:
        CalibrationError: A calibration does not fit the events or frames.
        FormatError: A file is damaged, or the times do not fit the frames.
        WindowError: Distorted frames are not as large as the sensor.
    """
    events, times, *rest = (root / file for file in sample.files)
    warped = rest[0].suffix.lower() == ".png"
    rectify, calibration = (None, None) if warped else rest[:2]
    parts = Parts(events, tuple(rest if warped else rest[2:]), times, calibration, rectify)
    return require_pairs(open_parts(parts, on_error), events, _SENSOR)


CARD = DatasetCard(
    name="dsec-pairs",
    title="DSEC pairs",
    task="pretraining",
    sensor=_SENSOR,
    camera="Prophesee Gen3.1, 640x480, left; frames of a colour camera beside it",
    window={"by": "frames"},
    units="colour frames of 8 bits, 0 where the frame camera does not reach; time in DSEC's microseconds",
    licence=LICENCE,
    citation=CITATION,
    home_page="https://dsec.ifi.uzh.ch/",
    download=(
        "Download the left events (with rectify_map.h5), the left rectified images, the timestamps of images and the "
        f"calibration from {DSEC_SITE}, and unpack all into one folder, each archive of a single sequence into a "
        "folder of its own name."
    ),
    divisions=(
        Division(
            name="eventfm",
            source="ours",
            about=f"{BENCHMARKS}: the twelve sequences of the owners' test split, three of them DSEC-Semantic's",
            counts={"train": 41, "test": 12},
            sha256="d996962458680c8e7b0904f2d5c2dc87f137d6c62d7e00a6b0f6ea577e107d20",
        ),
    ),
    traps=(
        "Frames are warped to the events as they are stored, not rectified, as if everything were infinitely far away: "
        "what is near stays displaced by its parallax. data.window.by=frame with data.curate={} leaves bad pairs out.",
        "DSEC-Flow and DSEC-Disparity have no public test labels; eventfm's own divisions of them test on sequences "
        "that are learnt from here (thun_00, zurich_city_09 and 11).",
        "ScaleEvent's list has the three test sequences of DSEC-Semantic.",
    ),
)
DATASET = Dataset(CARD, find, open_sample)
