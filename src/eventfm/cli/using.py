"""Verbs that use what was trained: evaluate, embed, predict, visualize; and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventfm.cli.settings import Settings


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


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the corpus, the runs and the report.")] = Path("out/demo"),
    seeds: Annotated[int, typer.Option(help="How many times the experiment is repeated.")] = 3,
) -> None:
    """Simulate, pretrain, probe, learn a task: the story in minutes. Exits with 1 if pretraining did not help."""
    from eventfm import api

    raise typer.Exit(0 if api.demo(out, seeds) else 1)
