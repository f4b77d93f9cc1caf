"""M3ED (Chaney et al., CVPR Workshops 2023) for pretraining: the left event camera, with frames as it sees them.

Layout: `<sequence>_data.h5`, or `<sequence>/<sequence>.h5` in the first release, however deep (`data.m3ed_sequence`).
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.alignment import M3ED_SITE
from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.framed import by_benchmarks, found, require_pairs
from eventfm.data.datasets.layout import Tree
from eventfm.data.m3ed_sequence import open_sequence
from eventfm.events import OnError, Sensor
from eventfm.protocols import Recording

_SENSOR = Sensor(1280, 720, "M3ED")
_NAME = r"(?:car|falcon|spot)_[a-z0-9_]+?"
_FILE = rf"(?:^|/)(?:({_NAME})_data|({_NAME})/\2)\.h5$"


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each sequence."""
    parts = [((match[1] or match[2]).lower(), (file,)) for match, file in tree.match(_FILE)]
    return found(parts, by_benchmarks, {}, CARD.download)


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a sequence, its frames warped to the left event camera.

    Raises:
        CalibrationError: A calibration is missing, or does not fit the frames.
        FormatError: The file is damaged, or has no frames.
    """
    path = root / sample.files[0]
    return require_pairs(open_sequence(path, on_error), path, _SENSOR)


CARD = DatasetCard(
    name="m3ed-pairs",
    title="M3ED pairs",
    task="pretraining",
    sensor=_SENSOR,
    camera="Prophesee Gen4, 1280x720, left; frames of a colour camera beside it, or of a grey one where it has none",
    window={"by": "frames"},
    units="frames of 8 bits, 0 where the frame camera does not reach; time in microseconds",
    licence="not known",
    citation=(
        "Chaney, Cladera, Wang, Bisulco, Hsieh, Korpela, Kumar, Taylor, Daniilidis: M3ED: Multi-Robot, Multi-Sensor, "
        "Multi-Environment Event Dataset. CVPR Workshops 2023"
    ),
    home_page="https://m3ed.io/",
    download=f"Download <sequence>_data.h5 from {M3ED_SITE} into one folder.",
    divisions=(
        Division(
            name="eventfm",
            source="ours",
            about="learn on all that there is; no benchmark that eventfm has tests on M3ED",
            counts={},
        ),
    ),
    traps=(
        "Frames are warped with the distortion of both lenses and as if everything were infinitely far away: what is "
        "near stays displaced by its parallax. data.window.by=frame with data.curate={} leaves bad pairs out.",
        "Which moment of the exposure the times of frames (ovc/ts) are is not published.",
        "The owners' list of sequences is not in the card: a sequence that was not downloaded is not named as missing. "
        "ScaleEvent counts 57.",
    ),
)
DATASET = Dataset(CARD, find, open_sample)
