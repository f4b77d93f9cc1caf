"""One function per verb; Python and the command line say the same thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eventfm.api.datasets import check_dataset, list_datasets, prepare_dataset, show_dataset
    from eventfm.api.demonstration import demo
    from eventfm.api.doctoring import diagnose, diagnose_all
    from eventfm.api.embedding import embed, load
    from eventfm.api.evaluating import evaluate
    from eventfm.api.finetuning import finetune
    from eventfm.api.predicting import predict
    from eventfm.api.preparing import prepare_teacher
    from eventfm.api.pretraining import pretrain
    from eventfm.api.recordings import convert, convert_all, find_recordings, info
    from eventfm.api.simulating import simulate_corpus
    from eventfm.api.visualizing import visualize
    from eventfm.api.weights import export_weights, import_weights

__all__ = [
    "check_dataset",
    "convert",
    "convert_all",
    "demo",
    "diagnose",
    "diagnose_all",
    "embed",
    "evaluate",
    "export_weights",
    "find_recordings",
    "finetune",
    "import_weights",
    "info",
    "list_datasets",
    "load",
    "predict",
    "prepare_dataset",
    "prepare_teacher",
    "pretrain",
    "show_dataset",
    "simulate_corpus",
    "visualize",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "datasets": ["check_dataset", "list_datasets", "prepare_dataset", "show_dataset"],
        "demonstration": ["demo"],
        "doctoring": ["diagnose", "diagnose_all"],
        "embedding": ["embed", "load"],
        "evaluating": ["evaluate"],
        "finetuning": ["finetune"],
        "predicting": ["predict"],
        "preparing": ["prepare_teacher"],
        "pretraining": ["pretrain"],
        "recordings": ["convert", "convert_all", "find_recordings", "info"],
        "simulating": ["simulate_corpus"],
        "visualizing": ["visualize"],
        "weights": ["export_weights", "import_weights"],
    },
)
