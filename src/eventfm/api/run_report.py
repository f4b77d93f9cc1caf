"""The report of a run: what was trained on what, how it went, what it sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventfm.api.collapse_looks import collapse_records
from eventfm.api.left_out import left_out
from eventfm.api.run_config import RunConfig
from eventfm.api.run_pictures import RunPictures
from eventfm.data.build import Samples
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import RunFolder
from eventfm.models.encoder import EncoderCard
from eventfm.visualization.collapse_plot import collapse_plot
from eventfm.visualization.curves import curves
from eventfm.visualization.files import read_picture

CURVES = {
    "Loss, and what predicting zero or guessing costs": [
        "loss",
        "zero_loss",
        "chance_loss",
        "held_out/loss",
        "held_out/zero_loss",
        "held_out/chance_loss",
    ],
    "Terms of the distillation": ["token", "intra", "cross"],
    "Distillation beside the teacher's mean token": ["held_out/loss", "held_out/mean_token_loss"],
    "Active patches": ["active_share", "held_out/active_share"],
    "Own teacher token against those of other pictures, share picked": ["accuracy", "held_out/accuracy", "chance"],
    "Cosine with the own teacher token": ["positive_cosine", "held_out/positive_cosine"],
    "Effective rank of held-out features": ["features/effective_rank"],
    "Mean cosine of held-out features": ["features/mean_cosine"],
    "Samples per second": ["samples_per_s"],
}
SEEN = (
    "events summed over the window; for masked modelling what the network saw, the standardised target and what it "
    "drew for the hidden patches; with a teacher its picture where it is at hand, its tokens for this view and, blue "
    "for like and vermilion for unlike, how the network's tokens agree with them; for distillation the student's "
    "tokens in the teacher's colours, and the patches that count; at last the network's own tokens. Like colours stand "
    "for like features."
)


def write_run_report(
    folder: RunFolder, config: RunConfig, card: EncoderCard, result: Any, pictures: RunPictures
) -> None:
    """Write the run's `report.html`."""
    records = read_metrics(folder)
    last: Mapping[str, Any] = records[-1] if records else {}
    sections = [
        Section("What this is", text=_summary(config, card, pictures.samples, last)),
        *progress_sections(records, pictures.folder, _whose(pictures.samples)),
        Section("Decisions", tables=[Table(["what", "value", "why"], result.decisions)]),
        *left_out(pictures.samples),
        Section("Settings", settings=config.model_dump(mode="json")),
        Section(
            "Training data",
            text=f"{len(card.trained_on)} recordings or pictures, list hash {card.trained_on_sha256[:16]}; the whole "
            f"list is in encoder/config.json. {_tests_among(card)}",
        ),
    ]
    write_report(folder.report, f"Run {folder.path.name}", sections)


def _tests_among(card: EncoderCard) -> str:
    if not card.overlaps:
        return ""
    return f"Benchmarks that test on some of it do not compare fairly: {'; '.join(card.overlaps)}."


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the lines of metrics of a run, none of a run that has not begun."""
    if not folder.metrics.exists():
        return []
    return [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]


def progress_sections(records: list[dict[str, Any]], pictures: Path, whose: str, before: str = "") -> list[Section]:
    """Return how a run went, and what its network saw at the start and sees now, drawn in the folder `pictures`.

    The pictures are of `whose` samples; `before` stands before both headings.
    """
    files = sorted(pictures.glob("step_*.png"))
    seen = [
        (f"{whose}, {_when(file)}" + (f": {SEEN}" if file == files[0] else ""), read_picture(file))
        for file in dict.fromkeys((files[0], files[-1]) if files else ())
    ]
    logged = {title: keys for title, keys in CURVES.items() if any(key in line for line in records for key in keys)}
    return [
        Section(f"{before}How it went", pictures=[("", curves(records, logged))] if logged else []),
        Section(f"{before}What it sees", pictures=seen),
        *_collapse(collapse_records(records), before),
    ]


def _collapse(records: list[dict[str, Any]], before: str) -> list[Section]:
    if not records:
        return []
    last = [record for record in records if record["step"] in (records[0]["step"], records[-1]["step"])]
    text = (
        "Whether the active tokens of a held-out sample stay as different from each other as the teacher's, at one, "
        "two and four times as many tokens a side (eventfm's figures; see evaluation.collapse). A collapsed student "
        "has an effective rank of 0 and a mean cosine of 1."
    )
    plots = [("over the steps", collapse_plot(records)), ("over the density of tokens", collapse_plot(last, "density"))]
    return [Section(f"{before}Collapse", text=text, pictures=plots)]


def _when(picture: Path) -> str:
    step = int(picture.stem.removeprefix("step_"))
    return f"after {step} steps" if step else "before the first step"


def _whose(samples: Samples) -> str:
    return "Held-out samples" if samples.held_out else "Training samples (nothing was held out)"


def _summary(config: RunConfig, card: EncoderCard, samples: Samples, last: Mapping[str, Any]) -> str:
    of_what = "grey" if config.data.difference == "linear" else "log(grey + 1/255)"
    target = (
        f"the difference in {of_what} of the two frames that bound the window"
        if samples.target == "frames"
        else "the log-intensity change that the window's own events encode (eventfm's extension; no frames needed)"
    )
    text = (
        f"{card.method} on {card.backbone.name}, input {card.input_size[1]}x{card.input_size[0]}, "
        f"{card.representation['name']}. "
    )
    if "zero_loss" in last:
        text += f"Target: {target}. "
    if teachers := [parent for parent in card.parents if parent.startswith("teacher ")]:
        text += f"Teacher: {json.loads(teachers[0].removeprefix('teacher ')).get('name')}. "
    text += f"{len(samples.training)} training samples"
    text += f", {len(samples.held_out)} held out." if samples.held_out else ", none held out."
    if "held_out/loss" in last:
        text += f" Loss on held-out samples after {last['step']} steps: {last['held_out/loss']:.4f}"
        trivial = {"predicting zero": "held_out/zero_loss", "guessing": "held_out/chance_loss"}
        costs = [f"{what} costs {last[name]:.4f}" for what, name in trivial.items() if name in last]
        text += "".join(f"; {cost}" for cost in costs) + "."
    return text
