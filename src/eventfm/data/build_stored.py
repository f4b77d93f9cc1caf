"""From data whose inputs were published ready-made to samples."""

from __future__ import annotations

from eventfm.data.ef_imagenet import WINDOW_US, Image
from eventfm.data.ef_samples import EFImageNetSamples
from eventfm.data.holding_out import chosen
from eventfm.data.opening import DataConfig, Source
from eventfm.data.samples import Samples
from eventfm.data.scenes import TeacherInput
from eventfm.data.table import CollectionError
from eventfm.data.trio import CODING, Trio
from eventfm.data.trio_samples import TrioSamples, split_trios
from eventfm.protocols import Representation
from eventfm.representations import EventVolume, VoxelGrid


def volume_samples(
    source: Source,
    config: DataConfig,
    representation: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None,
    patch: int | None,
) -> Samples:
    """Return the samples of ScaleEvent's released volumes; `patch` is the side of a patch that is active or not.

    Raises:
        CollectionError: They are to be of another representation or to have a target, or there is no teacher.
    """
    found = source.trio
    assert found is not None
    if not (isinstance(representation, EventVolume) and representation.coding == "imagenet"):
        raise CollectionError(
            f"{found.root} holds volumes of 3 bins that are read as pictures are; give "
            f"representation.name=event_volume representation.coding=imagenet, got {representation}"
        )
    if config.target in ("frames", "events") or teacher is None:
        raise CollectionError(
            f"{found.root} holds volumes and frames for a teacher, and nothing else to learn: choose a method with a "
            "teacher, and leave data.target out"
        )
    if config.augment.time_flip:
        raise CollectionError(f"the volumes in {found.root} cannot run backwards; give data.augment.time_flip=0")
    training, held_out = split_trios(found, config.holdout)

    def samples(trios: list[Trio], known: dict[str, str]) -> TrioSamples:
        return TrioSamples(found, tuple(trios), image_size, config.augment, patch, teacher, known)

    used = {trio.sequence for trio in training}
    identity = tuple(f"{name} {digest}" for name, digest in found.digests.items() if name in used)
    made = samples(training, dict(found.problems))
    return Samples(made, samples(held_out, {}) if held_out else None, "none", config.window, identity, CODING)


def ef_imagenet_samples(
    source: Source,
    config: DataConfig,
    representation: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None,
) -> Samples:
    """Return the samples of EF-ImageNet.

    Raises:
        CollectionError: They are to have another representation or target, or to be shown to a teacher.
    """
    stored = source.stored
    assert stored is not None
    expected = VoxelGrid(stored.num_bins)
    if representation != expected:
        raise CollectionError(
            f"EF-ImageNet in {stored.root} holds voxel grids of {stored.num_bins} bins, scaled by their first and last "
            f"events; give representation.name=voxel_grid representation.num_bins={stored.num_bins} "
            f"representation.span=events, got {representation}"
        )
    if config.target == "events" or config.difference != "linear":
        raise CollectionError(
            "EF-ImageNet brings its target, the linear difference of frames; leave data.target and data.difference out"
        )
    images, problems = stored.images, dict(stored.problems)
    if teacher is not None:
        if teacher.cache is None:
            raise CollectionError(
                f"EF-ImageNet in {stored.root} has no pictures to show to a teacher; "
                + (
                    "train with the tokens that it brings"
                    if stored.tokens
                    else "and no tokens of one (IMAGE_clip_emb.pt)"
                )
            )
        problems |= {image.name: "has no clip_emb" for image in images if image.key not in teacher.cache}
        images = tuple(image for image in images if image.name not in problems)
        if not images:
            raise CollectionError(f"none of the images of EF-ImageNet in {stored.root} is in the teacher's cache")
    elif not stored.has_targets:
        raise CollectionError(f"EF-ImageNet in {stored.root} has no sub_frames, so there is no target to train on")
    held = chosen([image.name for image in images], config.holdout) if config.holdout and len(images) > 1 else set()

    def samples(images: list[Image], known: dict[str, str]) -> EFImageNetSamples:
        return EFImageNetSamples(stored, tuple(images), image_size, config.augment, teacher, known)

    training = [image for number, image in enumerate(images) if number not in held]
    held_out = [image for number, image in enumerate(images) if number in held]
    identity = tuple(f"{image.name} {image.digest}" for image in training)
    window = config.window.model_copy(update={"by": "time", "duration_us": WINDOW_US})
    made = samples(training, problems)
    return Samples(made, samples(held_out, {}) if held_out else None, "frames", window, identity)
