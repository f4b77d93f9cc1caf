"""`prepare`: what is worked out once, before the runs that need it."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import PositiveInt

from eventfm.api.progress import counted
from eventfm.api.run_config import TeacherConfig
from eventfm.api.settings import nested
from eventfm.api.teaching import load_named
from eventfm.config import Config
from eventfm.data.build import DataConfig, open_source, scenes_of
from eventfm.engine.devices import find_device
from eventfm.engine.teacher_cache import CacheBuilt, build_cache

log = logging.getLogger(__name__)

_NAMED_AT_MOST = 20


class PrepareTeacherConfig(Config):
    """Settings of `prepare teacher`."""

    data: DataConfig
    """The data of the runs: the same keys as theirs."""
    teacher: TeacherConfig
    out: str
    """Folder of the cache: a new one, or one of the same teacher, to which is added what it lacks."""
    batch_size: PositiveInt = 64
    """Pictures that the teacher is asked about at once."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, ..."""


def prepare_teacher(*, quiet: bool = False, **settings: Any) -> CacheBuilt:
    """Ask a teacher once about every picture of a data source, and keep its tokens in half precision.

    `data=PATH` (or `data={"images": FOLDER}`), `teacher=NAME` and `out=FOLDER` are required. Runs on the same data then
    take `teacher.cache=FOLDER` and load no teacher. A run that was killed goes on where it was; pictures that cannot be
    read are passed over and named in the result.

    Raises:
        ValueError: No such data or teacher, data without pictures, or a folder that holds another teacher's tokens.
        WriteError: The system refused to write; what is finished stays.
    """
    config = PrepareTeacherConfig.parse(nested(settings), "prepare teacher")
    device = str(find_device(config.device)[0])
    scenes = scenes_of(open_source(config.data), config.data)
    teacher = load_named(config.teacher)
    with counted("teacher", len(scenes), quiet) as progress:
        built = build_cache(config.out, scenes, teacher, config.batch_size, progress, device=device)
    for name, reason in list(built.failed.items())[:_NAMED_AT_MOST]:
        log.error("%s: %s", name, reason)
    if len(built.failed) > _NAMED_AT_MOST:
        log.error("... and %d more pictures", len(built.failed) - _NAMED_AT_MOST)
    if built.failed and not built.num_tokens_written + built.num_kept:
        raise ValueError(f"none of the {len(built.failed)} pictures could be read, so that the cache is empty")
    return built
