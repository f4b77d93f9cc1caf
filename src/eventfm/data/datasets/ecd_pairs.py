"""Event Camera Dataset (Mueggler et al., IJRR 2017) for pretraining: a camera in the hand, on a slider, and simulated.

Layout: `<sequence>/events.txt` beside `images.txt` and `images/`, or `<sequence>.bag`, however deep.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.framed import by_benchmarks, found, require_pairs
from eventfm.data.datasets.layout import Tree, doubled
from eventfm.events import OnError, Sensor
from eventfm.io import ecd, rosbag
from eventfm.protocols import Recording

_SENSOR = Sensor(240, 180, "DAVIS240C")
SEQUENCES = (
    *(f"{scene}_{motion}" for scene in ("shapes", "poster", "boxes") for motion in ("rotation", "translation", "6dof")),
    *("hdr_poster", "hdr_boxes", "outdoors_walking", "outdoors_running"),
    *(f"dynamic_{motion}" for motion in ("rotation", "translation", "6dof")),
    *("calibration", "office_zigzag", "office_spiral", "urban"),
    *(f"slider_{name}" for name in ("close", "far", "hdr_close", "hdr_far", "depth")),
    *("simulation_3planes", "simulation_3walls"),
)
_FILE = rf"(?:^|/)({'|'.join(SEQUENCES)})(?:/events\.txt|\.bag)$"


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each sequence, as text or as a bag."""
    there = {file.lower() for file in tree.files}
    whole: list[tuple[str, str]] = []
    called = {name: f"{name}/events.txt or {name}.bag" for name in SEQUENCES}
    for match, file in tree.match(_FILE):
        pictures = f"{file.rpartition('/')[0]}/images.txt"
        if file.lower().endswith(".bag") or pictures.lower() in there:
            whole.append((match[1].lower(), file))
        else:
            called[match[1].lower()] = pictures
    parts = {name: (file,) for name, file in reversed(whole)}
    samples, problems = found(parts.items(), by_benchmarks, called, CARD.download)
    return Found(samples, (*problems, *doubled(whole)))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a sequence with `frames`.

    Raises:
        FormatError: A file is damaged, or there are no frames.
        MissingExtraError: It is a bag, and the package `rosbags` is not installed.
    """
    path = root / sample.files[0]
    if path.suffix.lower() == ".bag":
        return require_pairs(rosbag.open_bag(path, _SENSOR, on_error), path, _SENSOR)
    return require_pairs(ecd.open_folder(path.parent, _SENSOR, on_error), path, _SENSOR)


CARD = DatasetCard(
    name="ecd-pairs",
    title="Event Camera Dataset pairs",
    task="pretraining",
    sensor=_SENSOR,
    camera="DAVIS240C, 240x180; two sequences are simulated",
    window={"by": "frames"},
    units="grey frames of 8 bits; time in seconds from the start (text) or in the clock of the recorder (bags)",
    licence="CC BY-NC-SA 3.0",
    citation=(
        "Mueggler, Rebecq, Gallego, Delbruck, Scaramuzza: The Event-Camera Dataset and Simulator: Event-based Data for "
        "Pose Estimation, Visual Odometry, and SLAM. IJRR 2017"
    ),
    home_page="https://rpg.ifi.uzh.ch/davis_data.html",
    download=(
        "Download the sequences from https://rpg.ifi.uzh.ch/davis_data.html, as text, each unpacked into a folder of "
        "its name, or as bags, into one folder."
    ),
    size_gb=20,
    divisions=(
        Division(
            name="eventfm",
            source="ours",
            about="learn on all 27 sequences; no benchmark that eventfm has tests on them",
            counts={"train": 27},
            sha256="9f7a9b71d1b9c81f1e9fffc338573a2a4a5ac6801906ccaba6cffb545fa7cbe8",
        ),
    ),
    traps=(
        "Events and frames come from one sensor: pixel by pixel they fit as they are, with the distortion of the lens.",
        "Text and bags hold the same; text is parsed whole each time a sequence is opened, so prepare it once, or take "
        "the bags, which need the package rosbags.",
        "calibration looks at a checkerboard throughout, and the simulation_ sequences are no recordings: leave their "
        "folders out where that matters.",
        "A text file that was cut off at the end of a line is whole to any reader: its events end early.",
        "Networks that make pictures from events are often tested on this set: do not learn from it to compare there.",
    ),
)
DATASET = Dataset(CARD, find, open_sample)
