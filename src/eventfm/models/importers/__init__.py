"""Weights of other projects under this project's names, and back."""

from eventfm.models.importers.decoders import LoadedDecoder, export_decoder, load_decoder
from eventfm.models.importers.dino import export_dino, import_dino
from eventfm.models.importers.dino_names import Layout, dino_layout
from eventfm.models.importers.eventpretrain import ImportedCheckpoint, export_eventpretrain, import_eventpretrain
from eventfm.models.importers.files import CheckpointError, read_state, write_official
from eventfm.models.importers.layout import Part

__all__ = [
    "CheckpointError",
    "ImportedCheckpoint",
    "Layout",
    "LoadedDecoder",
    "Part",
    "dino_layout",
    "export_decoder",
    "export_dino",
    "export_eventpretrain",
    "import_dino",
    "import_eventpretrain",
    "load_decoder",
    "read_state",
    "write_official",
]
