"""The command line: the same verbs as in Python, with `key=value` for every setting."""

from __future__ import annotations

import logging
import sys
import warnings

import typer

from eventfm.cli import datasets, recordings, training, using


def _group(text: str) -> typer.Typer:
    """Return an empty group of commands; [key=value] in its help is no markup."""
    return typer.Typer(
        help=text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )


app = _group("Pretrain vision backbones on event-camera data without labels, and put them to use.")
_prepare = _group("Work out once what runs need.")
_datasets = _group("Public data sets, as their owners publish them.")

for _verb in (recordings.info, recordings.convert, recordings.doctor, recordings.simulate):
    app.command()(_verb)
for _verb in (training.pretrain, training.finetune, training.export):
    app.command()(_verb)
app.command("import")(training.import_)
for _verb in (using.evaluate, using.embed, using.predict, using.visualize, using.demo):
    app.command()(_verb)
_prepare.command()(training.teacher)
_prepare.command()(datasets.dataset)
_datasets.command("list")(datasets.list_all)
_datasets.command()(datasets.show)
_datasets.command()(datasets.check)
app.add_typer(_prepare, name="prepare")
app.add_typer(_datasets, name="datasets")


def main() -> None:
    """Run the command line: mistakes of the user end in one plain message and status 2."""
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"  # what it says, not the line of code
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except (ValueError, ImportError, OSError) as error:
        print(f"eventfm: {error}", file=sys.stderr)
        sys.exit(2)
