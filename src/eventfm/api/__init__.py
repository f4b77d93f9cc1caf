"""One function per verb; Python and the command line say the same thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "convert": "eventfm.api.recordings",
    "demo": "eventfm.api.demonstration",
    "embed": "eventfm.api.embedding",
    "evaluate": "eventfm.api.evaluating",
    "info": "eventfm.api.recordings",
    "load": "eventfm.deployment.predict",
    "pretrain": "eventfm.api.pretraining",
}

if TYPE_CHECKING:
    from eventfm.api.demonstration import demo
    from eventfm.api.embedding import embed
    from eventfm.api.evaluating import evaluate
    from eventfm.api.pretraining import pretrain
    from eventfm.api.recordings import convert, info
    from eventfm.deployment.predict import load

__all__ = ["convert", "demo", "embed", "evaluate", "info", "load", "pretrain"]


def __getattr__(name: str) -> Any:
    """Import a verb at first use, so that asking for help imports no network."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'eventfm.api' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
