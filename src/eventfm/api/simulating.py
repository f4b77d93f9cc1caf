"""`simulate`: pictures, video or frames to a corpus of event recordings, by many workers, resumable."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from eventfm.api.progress import counted
from eventfm.api.settings import nested
from eventfm.config import ConfigError
from eventfm.data.clips import KINDS, CorpusConfig, Entry, Kind
from eventfm.data.corpus import Corpus, Runner, build_corpus
from eventfm.data.manifest import other_versions, read_manifest
from eventfm.data.pool import num_cores, run_here, run_in_processes, run_on_ray
from eventfm.data.sources import MANIFEST_KIND, find_kind
from eventfm.registry import did_you_mean, require
from eventfm.simulation.interpolation import find_interpolator

log = logging.getLogger(__name__)

_NAMED_AT_MOST = 20
_FEWEST_FRAMES = 8
"""Fewer numbered pictures are no video."""


class SimulateConfig(CorpusConfig):
    """Settings of `simulate`: those of the corpus, and how it is made, which does not show in it."""

    kind: str = "auto"
    """What the source is: `pictures`, `video`, `frames`, `manifest` or a registered kind; `auto` looks at it."""
    root: str | None = None
    """Of a manifest: the folder where its sources lie now."""
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Processes, one clip and one thread each; 0 makes the clips in this one; `auto` is one for every core."""
    ray: str | None = None
    """Address of a Ray cluster that does the work instead (`auto`: the one this machine belongs to)."""
    on_error: Literal["skip", "raise"] = "skip"
    """`skip` leaves out clips that cannot be made and names them at the end; `raise` stops at the first."""


def simulate_corpus(source: str | Path, out: str | Path, *, quiet: bool = False, **settings: Any) -> Corpus:
    """Make event recordings from `source` into the folder `out` and return what became of them.

    `out` gets native stores (`clips-00000.h5`, ...) with events, noise labels where the sensor has noise, and tracks:
    `frames` and, of pictures, `flow` and `valid`, and with `masks` of their pixels' classes `semantic`; `labels.csv`;
    and `manifest.jsonl`, from which the corpus can be made again bit for bit: `simulate_corpus("manifest.jsonl",
    other)`. `data=OUT` trains on it. The clips do not depend on the number of workers. A run that was killed goes on
    where it was.

    Args:
        source: A picture or a folder of them, each set in motion; a video or a folder of them; a folder of frames with
            their times; a manifest; or the name of another kind of source.
        out: Folder to write to.
        quiet: Whether to show no progress.
        **settings: Keys of `SimulateConfig`, as keywords or, in a mapping, dotted: `num_clips=3`,
            `**{"motion.duration_us": 100_000, "pixel.preset": "noisy"}`. `video.interpolator` may be a function that
            can be imported by name.

    Raises:
        ConfigError: An unknown key or a value of the wrong kind.
        CollectionError: Nothing to make clips from, or `out` holds something else.
        WriteError: The system refused to write.
        MissingExtraError: An optional package is needed; the message says which extra has it.
    """
    config = SimulateConfig.parse(nested(_written_out(settings)), "simulate")
    kind = _kind(str(source), config)
    corpus = CorpusConfig.parse({name: getattr(config, name) for name in CorpusConfig.model_fields})
    if kind == MANIFEST_KIND:
        own = [name for name in config.model_fields_set if name in CorpusConfig.model_fields]
        if own:
            raise ConfigError(f"a manifest fixes what the clips are: leave out {', '.join(sorted(own))}")
        header, corpus, entries = read_manifest(Path(source))
        if said := other_versions(header):
            log.warning("%s was made with %s; clips may differ in a few bits", source, ", ".join(said))
        kind, root = header.kind, Path(config.root or header.root)
    else:
        if config.root is not None:
            raise ConfigError("root= says where the sources of a manifest lie now; leave it out")
        chosen: Kind = KINDS.get(kind)
        if corpus.masks is not None and kind != "pictures":
            raise ConfigError(f"masks= belongs to pictures, and the source is of the kind {kind}; leave it out")
        root, entries = chosen.entries(str(source), corpus)
    if config.kind == "auto" and kind == "pictures" and _numbered(entries):
        log.warning(
            "%s is taken for single pictures, each set in motion; if they are the frames of a video, say video.fps=30",
            source,
        )
    if corpus.video.interpolator is not None:
        find_interpolator(corpus.video.interpolator)  # a name that is wrong is told before the work
    with counted("simulating", len(entries), quiet) as progress:
        made = build_corpus(
            out, kind, root, entries, corpus, _runner(config), progress, stop_at_failure=config.on_error == "raise"
        )
    _say(made)
    return made


def _kind(source: str, config: SimulateConfig) -> str:
    if config.kind == "auto":
        return find_kind(source, config)
    if config.kind not in KINDS and config.kind != MANIFEST_KIND:
        raise ConfigError(f"unknown kind {config.kind!r}{did_you_mean(config.kind, [*KINDS, MANIFEST_KIND])}")
    return config.kind


def _numbered(entries: list[Entry]) -> bool:
    """Return whether the sources are named 0007, frame_0008 ... and nothing else, as the frames of a video are."""
    names = [re.fullmatch(r"(\D*)(\d+)", Path(entry.source).stem) for entry in entries]
    found = [match for match in names if match is not None]
    if len(found) < max(len(names), _FEWEST_FRAMES) or len({match[1] for match in found}) > 1:
        return False
    numbers = sorted({int(match[2]) for match in found})
    return len(numbers) >= _FEWEST_FRAMES and numbers[-1] - numbers[0] == len(numbers) - 1


def _runner(config: SimulateConfig) -> Runner:
    if config.ray is not None:
        require("ray", "corpora")
        return partial(run_on_ray, address=config.ray)
    if config.workers == 0:
        return run_here
    return partial(run_in_processes, num_workers=num_cores() if config.workers == "auto" else config.workers)


def _written_out(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with `pixel=NAME` as `pixel.preset=NAME`, and functions as `module:function`.

    Raises:
        ConfigError: The function cannot be imported by that name, so that no manifest could name it.
    """
    out: dict[str, Any] = {}
    for key, value in settings.items():
        out[key] = value
        if isinstance(value, dict):
            out[key] = {name: _name_of(inner) if callable(inner) else inner for name, inner in value.items()}
        elif callable(value):
            out[key] = _name_of(value)
        elif key == "pixel" and isinstance(value, str):
            out["pixel.preset"] = out.pop(key)
    return out


def _name_of(function: Callable[..., Any]) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in (None, "__main__") or not name.isidentifier() or getattr(sys.modules[module], name, None) != function:
        raise ConfigError(
            f"expected a function of a module that can be imported, got {function!r}: workers and the manifest know it "
            "by its name `module:function`"
        )
    return f"{module}:{name}"


def _say(made: Corpus) -> None:
    """Log what a user must know of single clips."""
    for about, level in ((made.failed, logging.ERROR), (made.warnings, logging.WARNING)):
        for name, said in list(about.items())[:_NAMED_AT_MOST]:
            log.log(level, "%s: %s", name, said if isinstance(said, str) else "; ".join(said))
        if len(about) > _NAMED_AT_MOST:
            log.log(level, "... and %d more clips", len(about) - _NAMED_AT_MOST)
