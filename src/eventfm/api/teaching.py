"""The teacher of a run: the network itself, or the tokens that it left in a cache."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from eventfm.api.run_config import TeacherConfig
from eventfm.config import ConfigError
from eventfm.data.build import Source, TeacherInput
from eventfm.data.token_cache import TokenCache
from eventfm.models.teacher_files import label
from eventfm.models.teachers import StoredTeacher, load_teacher
from eventfm.protocols import Teacher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teaching:
    """What a run needs of its teacher."""

    teacher: Teacher
    """For the objective."""
    input: TeacherInput
    """For the samples."""

    @property
    def identity(self) -> dict[str, Any]:
        """What tells the teacher from every other, as it comes back from a file."""
        values: dict[str, Any] = json.loads(json.dumps(dict(self.teacher.identity)))
        return values


def open_teaching(config: TeacherConfig, source: Source, image_size: tuple[int, int]) -> Teaching | None:
    """Return the teacher that `config` names, or that `source` brings with it; none where there is neither.

    `image_size` (height, width) is that of the network's inputs, which its pictures may follow. With a cache, the
    network is not loaded: its tokens are read.

    Raises:
        ConfigError: The cache was made by another teacher than the one that is named.
        ValueError: There is no such teacher or cache, or it cannot be read.
    """
    if source.stored is not None and source.stored.tokens is not None:
        if config.cache is not None:
            raise ConfigError(
                "EF-ImageNet brings its teacher's tokens with it and has no pictures; leave teacher.cache out"
            )
        tokens = source.stored.tokens
        log.info("teacher: %s, whose tokens come with the data", tokens.teacher["class"])
        return _stored(tokens, tokens.teacher)
    if config.cache is not None:
        cache = TokenCache.open(config.cache)
        made_by = str(cache.teacher.get("name"))
        if config.name is not None and made_by not in (config.name, label(config.name)):
            raise ConfigError(
                f"the tokens in {config.cache} were made by the teacher {made_by!r}, and the run asks for "
                f"{config.name!r}; give teacher.name={made_by}, or make a cache with the other one: eventfm prepare "
                "teacher"
            )
        return _stored(cache, cache.teacher)
    if config.name is None:
        return None
    size = image_size if config.input_size == "data" else config.input_size
    teacher = load_named(config.model_copy(update={"input_size": size}))
    return Teaching(teacher, TeacherInput(teacher.input_size))


def load_named(config: TeacherConfig) -> Teacher:
    """Return the network that `config.name` names.

    Raises:
        ConfigError: It names none.
        ValueError: There is no such teacher.
    """
    if config.name is None:
        raise ConfigError("no teacher is named: give teacher=NAME, a name on the model hub or a folder")
    if config.input_size == "data":
        raise ConfigError("there are no inputs whose size the pictures could follow; give teacher.input_size in pixels")
    return load_teacher(
        config.name,
        input_size=config.input_size,
        layers=config.layers,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
    )


def _stored(tokens: Any, identity: dict[str, Any]) -> Teaching:
    teacher = StoredTeacher(tokens.dim, tokens.grid, identity)
    return Teaching(teacher, TeacherInput(teacher.input_size, tokens))
