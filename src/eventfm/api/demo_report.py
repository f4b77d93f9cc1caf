"""The report of `demo`: the table, and links to every run behind it."""

from __future__ import annotations

from pathlib import Path

from eventfm.api.demo_dense import HEADER as DENSE_HEADER
from eventfm.api.demo_dense import NUM_STEPS, NUM_WORLDS, answers_of, rows_of
from eventfm.api.transferring import TransferResult
from eventfm.deployment.report import Section, Table, write_report
from eventfm.visualization.files import read_picture

HEADER = ["features", "probe", "accuracy, mean %", "standard deviation", "each seed"]


def write_demo_report(out: Path, rows: list[list[str]], helped: bool, num_seeds: int, dense: TransferResult) -> None:
    """Write `report.html` into `out`."""
    pictures = []
    latest = max((out / "seed0" / "pictures").glob("step_*.png"), default=None)
    if latest is not None:
        caption = "Held-out samples of seed 0: events, what was visible, target, what was drawn of the rest, tokens."
        pictures = [(caption, read_picture(latest))]
    write_report(
        out / "report.html",
        "Demonstration: does pretraining without labels help?",
        [
            Section(
                "Result",
                text="Pretraining helped beyond the spread over seeds. " * helped
                + "Pretraining did not help beyond the spread over seeds. " * (not helped)
                + "This is a small-scale experiment on simulated events: it shows that the pieces work together, and "
                "says nothing about real scenes.",
                tables=[Table(HEADER, rows)],
            ),
            Section(
                "How",
                text="Handwritten digits over photographs move before a simulated event sensor. A small vision "
                "transformer is pretrained on the training recordings without their labels, to draw how the light "
                "changed where it sees no events. Then it is frozen, and a linear probe learns the digits from its "
                "features. 'untrained' is the same network before pretraining; 'counts' are classifiers on the number "
                "of events per pixel. The folders seed0, seed1, ... hold each run with its own report, the folder "
                "probe every row.",
                pictures=pictures,
            ),
            Section(
                "A dense task",
                text=f"Classes of pixels in {NUM_WORLDS} simulated worlds of a wall, a floor and a disc or a star: the "
                f"whole network of seed0 is fine-tuned in {NUM_STEPS} steps, beside the same network from scratch. One "
                "seed and few test worlds: it shows that the task is learnt, not whether pretraining on digits helps "
                "with it. The folder segmentation holds each run.",
                tables=[Table(DENSE_HEADER, rows_of(dense))],
                pictures=[
                    ("Test worlds, the three best and the three worst answered.", read_picture(answers_of(dense)))
                ],
            ),
        ],
    )
