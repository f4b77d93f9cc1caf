"""The part of a config that names a backbone; encoder files and methods share it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from eventfm.config import Config


class BackboneConfig(Config):
    """A registered backbone and its arguments; channels and image size come from the data."""

    name: str = "vit_small"
    """Name in `eventfm.models.BACKBONES`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of its builder, such as `patch_size`."""
