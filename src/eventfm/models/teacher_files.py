"""A teacher's files: its network, how its pictures are normalised, and a hash of its weights.

Weights are read by transformers: safetensors where there are any, else PyTorch files by the reader that knows tensors
only (`weights_only`), which runs nothing that a file says.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eventfm.models.encoder import WEIGHTS as EVENT_WEIGHTS
from eventfm.models.teachers_families import Family, TeacherError, Triple, family_of
from eventfm.registry import require

UNUSED = frozenset({"pooler", "mask_token"})
"""Parts of parameter names that bear on no patch token; files often lack them."""
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def load_network(
    name: str, revision: str | None, trust_remote_code: bool
) -> tuple[nn.Module, Family, tuple[Triple, Triple]]:
    """Return the network called `name`, float32, on the CPU, in eval mode; its family; mean and std of its pictures.

    Raises:
        TeacherError: There is none, it cannot be had, or it lacks weights; the message says what to do.
        MissingExtraError: transformers is not installed.
    """
    transformers = require("transformers", "teachers")
    where = _resolve(name)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    options = {key: value for key, value in options.items() if value is not None}
    with _quiet(local=Path(where).is_dir()), _explained(name, where):
        config = transformers.AutoConfig.from_pretrained(where, **options)
        family = family_of(config.model_type)
        # Weights that a file lacks are drawn at random, here where the caller's draws are left alone, and refused.
        with torch.random.fork_rng(devices=[]):
            model, info = getattr(transformers, family.model).from_pretrained(
                where, dtype=torch.float32, output_loading_info=True, **family.arguments, **options
            )
        normalisation = _normalisation(name, where, revision, family)
    if missing := sorted(key for key in info["missing_keys"] if not UNUSED & set(key.split("."))):
        raise TeacherError(
            f"the weights of the teacher {name!r} are no {type(model).__name__}: {len(missing)} of its tensors are not "
            f"there, first {', '.join(missing[:3])}; save the whole model"
            + (", with its projection" if "visual_projection.weight" in missing else "")
        )
    return model.eval().requires_grad_(False), family, normalisation


def label(name: str) -> str:
    """Return `name`, or the last part of it where it is a folder: what is written down names no place on a machine."""
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def weights_sha256(model: nn.Module) -> str:
    """Return a hash of the tensors that bear on the tokens, whatever files they came in.

    It is made of the hashes of the tensors, sorted: names of tensors change from one version of transformers to the
    next.
    """
    tensors: Mapping[str, Tensor] = model.state_dict()
    used = [value for key, value in tensors.items() if not UNUSED & set(key.split("."))]
    return hashlib.sha256("".join(sorted(_digest(tensor) for tensor in used)).encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _resolve(name: str) -> str:
    """Return the folder that `name` is, or `name` itself as one of the hub's."""
    folder = Path(name).expanduser()
    if folder.is_file():
        raise TeacherError(f"expected a folder with config.json and weights, or a name of the hub, got the file {name}")
    if not folder.is_dir():
        if name.startswith((".", "~", os.sep)) or name.count("/") > 1 or name.endswith(_ENDINGS):
            raise TeacherError(f"no teacher at {name}: there is no such folder")
        return name
    for place in (folder, folder / "encoder"):
        if (place / EVENT_WEIGHTS).exists():
            raise TeacherError(
                f"{name} holds an encoder of eventfm, which reads events; a teacher reads pictures: give a "
                "transformers folder, or a name of the hub"
            )
    if not (folder / "config.json").exists():
        raise TeacherError(f"{name} holds no transformers model: expected config.json and model.safetensors there")
    return str(folder)


def _normalisation(name: str, where: str, revision: str | None, family: Family) -> tuple[Triple, Triple]:
    """Return mean and standard deviation of pictures in [0, 1]: as the teacher's files say, else as published."""
    said = _preprocessor(where, revision)
    if not said.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    elif "image_mean" in said and "image_std" in said:
        mean, std = _triple(said["image_mean"]), _triple(said["image_std"])
    elif family.normalisation is not None:
        mean, std = family.normalisation
    else:
        raise TeacherError(
            f"the files of the teacher {name!r} do not say how its pictures are normalised; put a "
            'preprocessor_config.json beside its weights: {"image_mean": [...], "image_std": [...]}'
        )
    # Pictures of 0 to 255 are first made smaller by this factor; almost always to [0, 1].
    top = 255 * said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 255.0
    if abs(top - 1) > 1e-3:
        mean, std = _triple([m / top for m in mean]), _triple([s / top for s in std])
    return mean, std


def _preprocessor(where: str, revision: str | None) -> dict[str, Any]:
    from transformers.utils import cached_file

    for file in ("preprocessor_config.json", "processor_config.json"):
        found = cached_file(
            where,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None:
            said = json.loads(Path(found).read_text(encoding="utf-8"))
            inner = said.get("image_processor", said)  # newer files hold the parts of a processor by name
            if isinstance(inner, dict):
                return inner
    return {}


def _triple(values: Any) -> Triple:
    first, second, third = values if isinstance(values, list | tuple) else [values] * 3
    return float(first), float(second), float(third)


@contextmanager
def _explained(name: str, where: str) -> Iterator[None]:
    """Say of whatever transformers raises what it means for the user."""
    try:
        yield
    except TeacherError:
        raise
    except Exception as error:
        # transformers passes on errors of many libraries: files, JSON, safetensors, the network.
        reason = " ".join(str(error).split()) or type(error).__name__
        if "weights_only" in reason:  # what torch advises against it would run whatever the file holds
            reason = "the weights file holds more than tensors, and was not loaded"
        if "trust_remote_code" in reason:
            advice = "it runs code of its own; pass trust_remote_code=True if you have read that code and trust it"
        elif Path(where).is_dir():
            advice = "expected a model of pictures, saved by transformers (config.json and model.safetensors)"
        else:
            advice = (
                "there is no folder of that name, so it is looked for on the hub: check the name; if the model asks "
                "for consent, give it on its page and log in (hf auth login); without a network, give a folder that "
                "holds the model"
            )
        raise TeacherError(f"cannot load the teacher {name!r}: {advice}. transformers says: {reason}") from error


@contextmanager
def _quiet(local: bool) -> Iterator[None]:
    """Keep transformers from listing the parts of a file that are left alone; a download shows its progress."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if local:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
