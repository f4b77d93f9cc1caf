"""The command line: the same verbs as in Python, with `key=value` for every setting."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from eventfm.api.dataset_verbs import datasets, prepare

app = typer.Typer(
    help="Pretrain vision backbones on event-camera data without labels, and put them to use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # [key=value] in help is no markup
)

Settings = Annotated[list[str] | None, typer.Argument(help="Settings as key=value.", metavar="[KEY=VALUE]...")]


@app.command()
def info(
    path: Annotated[
        Path, typer.Argument(help="A recording: a file, a folder of the Event Camera Dataset, FILE.h5::ID.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the events into this PNG.")] = None,
    format: Annotated[str | None, typer.Option(help="A hint where the content does not say.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor size as WIDTHxHEIGHT, a hint.")] = None,
    on_error: Annotated[str, typer.Option(help="raise, sort or clamp.")] = "raise",
) -> None:
    """Say what a recording holds."""
    from eventfm import api
    from eventfm.io.summary import summary_lines

    summary = api.info(path, png=png, format=format, sensor=_size(sensor), on_error=on_error)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(summary))
        return
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    print("\n".join([f"{path}: {summary['format']}", *summary_lines(summary, plain)]))


@app.command()
def convert(
    paths: Annotated[
        list[str], typer.Argument(metavar="SOURCE... TARGET", help="Recordings to read, and last the file to write.")
    ],
    to: Annotated[str | None, typer.Option(help="Format to write: a suffix, or dsec, evt3, evt2, ...")] = None,
    format: Annotated[str | None, typer.Option(help="A hint where the content does not say.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor size as WIDTHxHEIGHT, a hint.")] = None,
    on_error: Annotated[str, typer.Option(help="raise, sort or clamp.")] = "raise",
    overwrite: Annotated[bool, typer.Option(help="Replace the target if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Write recordings in another format: eventfm convert SOURCE TARGET.h5, or SOURCE... FOLDER --to .h5.

    The target's suffix says the format (.h5, .raw, .dat, .aedat4, .csv, .txt, .npz, .npy; --to dsec or evt2 for those):
    .h5 keeps everything. Several sources, or a target that is a folder or has no suffix, make one file per recording;
    folders and stores are searched through. The same command goes on where it was stopped. Exits with 1 if some
    recordings could not be converted.
    """
    from eventfm import api

    *sources, target = paths
    if not sources:
        raise ValueError("expected a source and a target: eventfm convert SOURCE... TARGET")
    size, damage = _size(sensor), cast(Any, on_error)
    if len(sources) == 1 and Path(target).suffix and not Path(target).is_dir():
        hints = {"to": to, "format": format, "sensor": size}
        print(f"wrote {api.convert(sources[0], target, on_error=damage, overwrite=overwrite, **hints)}")
        return
    made = api.convert_all(
        sources, target, to=to or ".h5", format=format, sensor=size, on_error=damage, overwrite=overwrite, quiet=quiet
    )
    print(f"{target}: {len(made.written):,} recordings written, {len(made.kept):,} kept")
    for source, why in made.failed.items():
        print(f"eventfm: {source}: {why}", file=sys.stderr)
    if made.failed:
        raise typer.Exit(1)


@app.command()
def doctor(
    paths: Annotated[list[str], typer.Argument(metavar="RECORDING...", help="Files, stores or folders to look at.")],
    fix: Annotated[Path | None, typer.Option(help="Repaired copy to write; for several recordings, a folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per recording.")] = False,
    format: Annotated[str | None, typer.Option(help="A hint where the content does not say.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor size as WIDTHxHEIGHT, a hint.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the repaired copy if it exists.")] = False,
) -> None:
    """Look for faults: eventfm doctor RECORDING... [--fix OUT]. Exits with 1 if there are some.

    Clock, pixels, flicker, gaps, rates, frames: each finding has a number and says what to do. The suffix of OUT says
    the format of the copy; in a folder copies are .h5. The recording itself is never changed.
    """
    from eventfm import api

    size = _size(sensor)
    found = api.diagnose_all(paths, fix=fix, format=format, sensor=size, overwrite=overwrite)
    sick = 0
    for diagnosis in found:
        sick += not diagnosis.clean
        print(json.dumps(diagnosis.as_json()) if as_json else str(diagnosis))
    if sick:
        raise typer.Exit(1)


@app.command()
def simulate(
    source: Annotated[
        str, typer.Argument(help="Pictures, video, frames (a file or a folder), a manifest, or the word: scenes.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the recordings.")],
    settings: Settings = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make event recordings: eventfm simulate SOURCE OUT num_clips=2 pixel=noisy motion.duration_us=100000 ...

    Keys: seed, num_clips, sensor, motion.*, pixel.*, video.*, scene.*, enlarge,
    frames_hz, tracks, label_by, shard_clips, kind, root, workers, ray, on_error.

    Exits with 1 if some clips could not be made; the others are there, and the same command tries those again.
    """
    from eventfm import api
    from eventfm.config import parse_overrides

    made = api.simulate_corpus(source, out, quiet=quiet, **parse_overrides(settings or []))
    if as_json:
        counts = {"num_clips": made.num_clips, "num_events": made.num_events}
        print(json.dumps({"out": str(made.out), **counts, "failed": made.failed, "warnings": made.warnings}))
    else:
        print(f"{made.out}: {made.num_clips:,} recordings, {made.num_events:,} events")
    if made.failed:
        print(f"eventfm: {len(made.failed)} clips could not be made", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def pretrain(
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe, or a YAML file.")] = None,
    settings: Settings = None,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe as YAML, and do nothing.")] = False,
) -> None:
    """Pretrain an encoder: eventfm pretrain RECIPE data=PATH out=FOLDER [teacher=NAME] [key=value ...].

    A recipe of several stages takes keys for all of them (train.batch_size=64) and for one
    (stages.contrast.train.epochs=10); stages.contrast=null leaves one out.
    """
    from eventfm.config import apply_overrides, load_recipe, parse_overrides, recipe_names

    if list_recipes or recipe is None:
        print("\n".join(recipe_names()))
        return
    if show:
        import yaml

        changes = parse_overrides(settings or [])
        values = apply_overrides(load_recipe(recipe, changes.pop("variant", None)), changes)
        print(yaml.safe_dump(values, sort_keys=False), end="")
        return
    from eventfm import api

    result = api.pretrain(recipe, **parse_overrides(settings or []))
    if result.interrupted:
        print(f"stopped at step {result.step}; the same command resumes it")
    else:
        print(f"encoder: {result.encoder}\nreport:  {result.out / 'report.html'}")


@app.command()
def finetune(
    recipe: Annotated[str | None, typer.Argument(help="A task, a published protocol, or a YAML file.")] = None,
    settings: Settings = None,
    list_recipes: Annotated[bool, typer.Option("--list", help="List tasks and protocols.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe as YAML, and do nothing.")] = False,
) -> None:
    """Train a task on labels: eventfm finetune TASK encoder=FOLDER data=PATH out=FOLDER [key=value ...].

    TASK is recognition (data.labels=TABLE.csv), segmentation, flow or depth (tracks of the recordings). What
    is learnt: task.adapt.mode=full, frozen, partial or lora; labels.share=0.05 uses few labels; weights=scratch
    starts the encoder's network anew, for comparison.
    """
    from eventfm.config import apply_overrides, load_recipe, parse_overrides, recipe_names

    if list_recipes or recipe is None:
        print("\n".join(recipe_names("finetune")))
        return
    from eventfm import api

    if show:
        import yaml

        from eventfm.api.finetune_config import named

        changes = parse_overrides(settings or [])
        values = apply_overrides(load_recipe(named(recipe), changes.pop("variant", None)), changes)
        print(yaml.safe_dump(values, sort_keys=False), end="")
        return
    result = api.finetune(recipe, **parse_overrides(settings or []))
    if result.interrupted:
        print(f"stopped at step {result.step}; the same command resumes it")
    else:
        print(f"model:  {result.model}\nreport: {result.out / 'report.html'}")


@app.command(name="import")
def import_(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of EventPretrain, ScaleEvent, DINOv3 or DINOv2, .pth, in which nothing is run; of DINO "
            "also a folder of transformers or a name of its hub."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the encoder.")],
    settings: Settings = None,
) -> None:
    """Make an encoder of official weights: eventfm import FILE.pth OUT [backbone=vit stage=con in_channels=5].

    Which project they come from is seen by their names. The keys say what the checkpoint is expected to be; another
    one is refused by name.
    """
    from eventfm import api
    from eventfm.config import parse_overrides

    card = api.import_weights(checkpoint, out, **parse_overrides(settings or []))
    print(f"encoder: {out} ({card.backbone.name}, {card.in_channels} channels, {card.method})")


@app.command()
def export(
    encoder: Annotated[Path, typer.Argument(help="Folder of an encoder, or of a run.")],
    out: Annotated[Path, typer.Argument(help="The file to write, .pth; a folder for the layout huggingface.")],
    layout: Annotated[
        str | None,
        typer.Option(help="Of a DINOv3 or DINOv2: official, if not given, scaleevent, or huggingface."),
    ] = None,
) -> None:
    """Write an encoder as the official code of its backbone reads it: eventfm export ENCODER FILE.pth."""
    from eventfm import api

    print(f"wrote {api.export_weights(encoder, out, layout)}")


app.add_typer(prepare, name="prepare")
app.add_typer(datasets, name="datasets")


@prepare.command()
def teacher(
    settings: Settings = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Keep a teacher's tokens: eventfm prepare teacher data=PATH teacher=NAME out=FOLDER [data.images=... ...].

    Runs on the same data then take teacher.cache=FOLDER. Exits with 1 if some pictures could not be read; the
    tokens of the others are there, and the same command tries those again.
    """
    from eventfm import api
    from eventfm.config import parse_overrides

    values = parse_overrides(settings or [])
    built = api.prepare_teacher(quiet=quiet, **values)
    print(f"{values.get('out')}: {built.num_tokens_written:,} pictures new, {built.num_kept:,} kept")
    if built.failed:
        print(f"eventfm: {len(built.failed)} pictures could not be read", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def evaluate(
    suite: Annotated[str, typer.Argument(help="What to run: probe, transfer or robustness.")],
    settings: Settings = None,
) -> None:
    """Compare encoders and models: eventfm evaluate SUITE encoders=A,B data.path=PATH data.labels=CSV out=FOLDER ...

    probe scores frozen features by classes of recordings or, with task=segmentation, of pixels. transfer recipe=TASK
    trains a task on labels, frozen or not, with all or few of them, over seeds, beside rows without pretraining.
    robustness models=A,B scores models on events that were made worse.
    """
    from eventfm import api
    from eventfm.config import parse_overrides

    result = api.evaluate(suite, **parse_overrides(settings or []))
    print(f"report: {result.out / 'report.html'}")


@app.command()
def embed(
    settings: Settings = None,
) -> None:
    """Write the features of every window: eventfm embed encoder=FOLDER data=PATH out=FILE.npz [window.by=count ...]."""
    from eventfm import api
    from eventfm.api.embedding import EmbedConfig
    from eventfm.api.settings import nested
    from eventfm.config import parse_overrides

    config = EmbedConfig.parse(nested(parse_overrides(settings or [])), "embed")
    found = api.embed(
        config.encoder,
        config.data.path,
        config.out,
        window=config.window,
        representation=config.representation,
        format=config.data.format,
        sensor=config.data.sensor,
        on_error=config.data.on_error,
        device=config.device,
    )
    recordings = list(found.values()) if isinstance(found, dict) else [found]
    print(f"embedded {sum(map(len, recordings))} windows of {len(recordings)} recording(s)")


@app.command()
def predict(
    recording: Annotated[str, typer.Argument(help="The recording to answer for.")],
    settings: Settings = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Write a model's answers for every window: eventfm predict RECORDING model=FOLDER out=FOLDER [window.by=time ...].

    Masks, flow, depth or classes as arrays, a video and a picture; out=FILE.npz, .mp4 or .png writes that alone.
    Keys: model, out, window.*, scale, overlap, batch_size, fps, codec, format, sensor, on_error, device.
    """
    from eventfm import api
    from eventfm.config import ConfigError, parse_overrides

    values = parse_overrides(settings or [])
    for key, meaning in (("model", "folder of a model, or of its run"), ("out", "folder or file to write")):
        if not isinstance(values.get(key), str):
            raise ConfigError(f"{key}=PATH is required: the {meaning}")
    found = api.predict(recording, quiet=quiet, **values)
    print(f"{found.task} of {found.num_windows:,} window(s)\nwrote {', '.join(map(str, found.paths))}")
    if found.share is not None:
        best = int(found.share.argmax())
        print(f"mean over the windows: {found.classes[best]}, {found.share[best]:.1%}")


@app.command()
def visualize(
    encoder: Annotated[Path, typer.Argument(help="Folder of an encoder, or of a run.")],
    recording: Annotated[str, typer.Argument(help="The recording to look at.")],
    settings: Settings = None,
) -> None:
    """Draw an encoder's tokens: eventfm visualize ENCODER RECORDING out=FILE.png [teacher=NAME] [at=0.5,2 ...].

    Keys: out, teacher (a name on the model hub or a folder, which reads the frames), at (seconds since the first
    event), anchors, clusters, density=1,2,4, window.*, format, sensor, on_error, device.
    """
    from eventfm import api
    from eventfm.config import ConfigError, parse_overrides

    values = parse_overrides(settings or [])
    if not isinstance(values.get("out"), str):
        raise ConfigError("out=FILE.png is required: the picture to write")
    print(f"wrote {api.visualize(encoder, recording, **values).path}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the corpus, the runs and the report.")] = Path("out/demo"),
    seeds: Annotated[int, typer.Option(help="How many times the experiment is repeated.")] = 3,
) -> None:
    """Simulate, pretrain, probe: the whole story in minutes. Exits with 1 if pretraining did not help."""
    from eventfm import api

    raise typer.Exit(0 if api.demo(out, seeds) else 1)


def main() -> None:
    """Run the command line: mistakes of the user end in one plain message and status 2."""
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"  # what it says, not the line of code
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except (ValueError, ImportError, OSError) as error:
        print(f"eventfm: {error}", file=sys.stderr)
        sys.exit(2)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ValueError(f"expected a sensor size as WIDTHxHEIGHT, got {text!r}")
    return int(width), int(height)


if __name__ == "__main__":
    main()
