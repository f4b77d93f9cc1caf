"""What the backbone of a run starts from."""

from __future__ import annotations

import json
from dataclasses import dataclass

from torch import nn

from eventfm.api.run_config import RunConfig
from eventfm.config import ConfigError
from eventfm.models.encoder import EncoderCard
from eventfm.models.initial import start_from
from eventfm.protocols import Representation

FROM_TEACHER = "teacher"


@dataclass(frozen=True)
class Start:
    """Where weights come from, and what they have seen."""

    lineage: str
    """One line for the card of what is made from them."""
    weights_sha256: str
    trained_on: tuple[str, ...] = ()
    overlaps: tuple[str, ...] = ()


def start_of(config: RunConfig, backbone: nn.Module, representation: Representation) -> Start | None:
    """Give `backbone` the weights that `config.init` names, and return where they come from; None where it names none.

    Raises:
        ConfigError: It is to start as its teacher, and no teacher is named.
        EncoderError: There is nothing there, or what does not fit; the message names the keys.
        CheckpointError: A checkpoint that cannot be read.
    """
    if config.init is None:
        return None
    source = config.init
    if source == FROM_TEACHER:
        if config.teacher.name is None:
            raise ConfigError("init=teacher needs the teacher's weights, and none is named: give teacher=NAME")
        source = config.teacher.name
    found = start_from(backbone, source, representation)
    if isinstance(found, EncoderCard):
        return Start(
            f"encoder {found.method} {found.weights_sha256}", found.weights_sha256, found.trained_on, found.overlaps
        )
    return Start(f"weights {json.dumps(found, sort_keys=True)}", str(found["weights_sha256"]))
