"""Weights of other projects under this project's names, and back."""

from eventfm.models.importers.eventpretrain import ImportedCheckpoint, export_eventpretrain, import_eventpretrain
from eventfm.models.importers.files import CheckpointError, read_state, write_official
from eventfm.models.importers.layout import Part

__all__ = [
    "CheckpointError",
    "ImportedCheckpoint",
    "Part",
    "export_eventpretrain",
    "import_eventpretrain",
    "read_state",
    "write_official",
]
