"""Running the stages of a recipe one after the other, and their common report."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from eventfm.api.run_config import RunConfig
from eventfm.api.run_report import progress_sections, read_metrics
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.distributed import world
from eventfm.engine.run_folder import RunFolder, RunFolderError, write_atomic
from eventfm.models.atomic import replace_folder
from eventfm.models.encoder import read_card

if TYPE_CHECKING:
    from eventfm.api.pretraining import RunResult

log = logging.getLogger(__name__)

Stages = Sequence[tuple[str, RunConfig]]


def run_stages(
    stages: Stages, out: Path, run: Callable[[RunConfig], RunResult], check: Callable[[RunConfig], None]
) -> RunResult:
    """Do each of `stages` by `run`, or what is left of them; return the last one's result, kept in `out`.

    A stage that is complete is only looked at again; one that was interrupted goes on. `check` looks at the later
    stages before the first one begins: what they lack is not to come out when hours have been spent.

    Raises:
        RunFolderError: `out` holds something else than these stages.
        ValueError: As `run` raises.
    """
    from eventfm.api.pretraining import RunResult

    for name, config in stages[1:]:
        log.info("looking ahead at stage %s", name)
        check(config)
    main = world().rank == 0
    if main:
        _claim(out, stages)
    for number, (name, config) in enumerate(stages, start=1):
        log.info("stage %d of %d: %s", number, len(stages), name)
        result = run(config)
        log.info("%s: %s after %d steps", name, "stopped" if result.interrupted else "complete", result.step)
        if result.interrupted:
            return RunResult(out, result.encoder, result.step, True, result.metrics)
    if main:
        _write_config(out, stages)
        _publish(result.encoder, out / "encoder")
        write_stages_report(out, stages)
    return RunResult(out, out / "encoder", result.step, False, result.metrics)


def write_stages_report(out: Path, stages: Stages) -> None:
    """Write `out/report.html` on all stages; each has one of its own as well."""
    rows, sections = [], []
    for name, config in stages:
        folder = RunFolder(Path(config.out))
        card, records = read_card(folder.encoder), read_metrics(folder)
        last: dict[str, Any] = records[-1] if records else {}
        rows.append(
            (folder.path.name, card.method, last.get("step"), last.get("loss"), last.get("held_out/loss"),
             last.get("features/effective_rank"), f"{folder.path.name}/report.html")
        )  # fmt: skip
        sections += progress_sections(records, folder.path / "pictures", "Samples of the run", f"Stage {name}: ")
    columns = ["stage", "method", "steps", "loss", "loss, held out", "effective rank", "its own report"]
    text = (
        "Stages run in order, each from the encoder of the one before; encoder/ is the last one's. Losses of different "
        "methods cannot be compared with each other."
    )
    if parents := [parent for parent in card.parents if parent.startswith("teacher ")]:
        text += f" Teacher: {json.loads(parents[0].removeprefix('teacher ')).get('name')}."
    first = Section("What this is", text=text, tables=[Table(columns, rows)])
    write_report(out / "report.html", f"Run {out.name}", [first, *sections])


def _claim(out: Path, stages: Stages) -> None:
    """Make `out` a folder of stages; whether a stage in it is the same run, the stage's own folder knows."""
    config = out / "config.yaml"
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"expected {out} to be a folder, and it is a file; choose another out=")
    if out.exists() and any(out.iterdir()) and not (config.exists() and _stages_in(config)):
        raise RunFolderError(
            f"expected {out} to be empty or to hold the stages of a recipe, and it holds something else; choose "
            "another out="
        )
    wanted = {Path(run.out).name for _, run in stages}
    if other := sorted({path.name for path in out.glob("[0-9]*_*") if path.is_dir()} - wanted):
        raise RunFolderError(
            f"{out} holds the stage {other[0]}, and this recipe has {', '.join(sorted(wanted))}: choose another out=, "
            "or ask for the same stages"
        )
    out.mkdir(parents=True, exist_ok=True)
    if not config.exists():  # a stage that was changed may still be refused; then this file must not say so
        _write_config(out, stages)


def _write_config(out: Path, stages: Stages) -> None:
    values = {"stages": {name: config.model_dump(mode="json") for name, config in stages}}
    write_atomic(out / "config.yaml", yaml.safe_dump(values, sort_keys=False))


def _stages_in(config: Path) -> bool:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return False
    return isinstance(values, dict) and "stages" in values


def _publish(encoder: Path, target: Path) -> None:
    """Copy the last stage's encoder to where that of the whole run is looked for, all at once."""
    temporary = target.with_name(f".{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(encoder, temporary)
    replace_folder(temporary, target)
