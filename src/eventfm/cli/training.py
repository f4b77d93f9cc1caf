"""Verbs that train, and bring weights in and out: pretrain, finetune, import, export, prepare teacher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eventfm.cli.settings import Settings


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
    if not result.interrupted:
        print(f"encoder: {result.encoder}\nreport:  {result.out / 'report.html'}")


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
    if not result.interrupted:
        print(f"model:  {result.model}\nreport: {result.out / 'report.html'}")


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
