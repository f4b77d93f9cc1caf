from __future__ import annotations

import warnings
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ef_imagenet_files import BINS, tensor_of, write_image, write_set

from eventfm.data.build import DataConfig, Samples, TeacherInput, build_samples, open_source, scenes_of
from eventfm.data.collection import CollectionError
from eventfm.data.ef_imagenet import is_ef_imagenet, open_ef_imagenet
from eventfm.data.ef_samples import EFImageNetSamples
from eventfm.data.loader import Loader
from eventfm.data.problems import UnreadableError
from eventfm.data.transforms import draw
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, save_recording
from eventfm.representations import PolarityCounts, VoxelGrid


def built(root: Path, teacher: bool = False, size: tuple[int, int] = (12, 16), **values: object) -> Samples:
    config = DataConfig.parse({"path": str(root), "holdout": 0.0, **values})
    source = open_source(config)
    shown = TeacherInput((8, 8), source.tokens) if teacher else None
    return build_samples(source, config, VoxelGrid(BINS), VoxelGrid(1), size, shown)


def filled(samples: EFImageNetSamples, index: int, seed: int | None) -> dict[str, np.ndarray]:
    out = {name: np.full(shape, np.nan, np.float32) for name, shape in samples.shapes.items()}
    samples.fill(index, None if seed is None else np.random.default_rng(seed), out)
    return out


def training(samples: Samples) -> EFImageNetSamples:
    assert isinstance(samples.training, EFImageNetSamples)
    return samples.training


PLAIN = {"crop_min": 1.0, "flip": 0.0, "time_flip": 0.0}


def test_a_root_is_known_by_its_layout(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    assert is_ef_imagenet(root)
    assert is_ef_imagenet(root / "n01")
    assert not is_ef_imagenet(tmp_path / "none")
    other = tmp_path / "other" / "a" / "b"
    other.mkdir(parents=True)
    assert not is_ef_imagenet(tmp_path / "other")
    events = Events.checked([0], [0], [0], [0], Sensor(4, 4))
    assert not is_ef_imagenet(save_recording(tmp_path / "r.h5", ArrayRecording(events)))


def test_sizes_bins_windows_and_tokens_are_read(tmp_path: Path) -> None:
    write_image(tmp_path / "n01" / "n01_0", 0, (12, 16), windows=2)
    write_image(tmp_path / "n01" / "n01_1", 1, (20, 10), windows=4, tokens=None)
    found = open_ef_imagenet(tmp_path)
    assert [(image.name, image.windows) for image in found.images] == [
        ("n01/n01_0", ("00", "01")),
        ("n01/n01_1", ("00", "01", "02", "03")),
    ]
    assert (found.num_bins, found.sensor.width, found.sensor.height) == (BINS, 16, 12)
    assert found.sensor.inferred
    assert found.has_targets
    assert found.tokens is not None
    assert (found.tokens.dim, found.tokens.grid) == (4, (3, 3))
    assert found.tokens.teacher["grid"] == [3, 3]
    np.testing.assert_array_equal(found.tokens.read("n01/n01_0"), np.zeros((9, 4)))
    assert "n01/n01_1" not in found.tokens


@pytest.mark.parametrize("noise", ["noisy", "clean"])
def test_without_augmentation_a_window_is_what_is_stored(tmp_path: Path, noise: str) -> None:
    write_set(tmp_path)
    samples = training(built(tmp_path, noise=noise, augment=PLAIN))
    assert samples.shapes == {"input": (BINS, 12, 16), "target": (1, 12, 16)}
    kind = ("noisy", "clean").index(noise)
    for index, image in enumerate(samples.images):
        number = int(image.name[-1])
        evaluation = filled(samples, index, None)
        windows = [tensor_of(number, window, (12, 16), kind).numpy() for window in range(3)]
        np.testing.assert_array_equal(evaluation["input"], windows[index % 3])
        np.testing.assert_array_equal(filled(samples, index, None)["input"], evaluation["input"])
        np.testing.assert_allclose(evaluation["target"][0], tensor_of(number, index % 3, (12, 16)).sum(0), atol=1e-6)
        drawn = {filled(samples, index, seed)["input"].tobytes() for seed in range(30)}
        assert drawn == {window.tobytes() for window in windows}


def test_events_are_enlarged_to_the_nearest_and_targets_bicubically(tmp_path: Path) -> None:
    write_set(tmp_path, 1, windows=1)
    out = filled(training(built(tmp_path, size=(30, 40))), 0, None)
    events, target = tensor_of(0, 0, (12, 16), 0), tensor_of(0, 0, (12, 16)).sum(0, keepdim=True)
    enlarged = torch.nn.functional.interpolate(events[None], (30, 40), mode="nearest")[0]
    np.testing.assert_array_equal(out["input"], enlarged)
    cubic = torch.nn.functional.interpolate(target[None], (30, 40), mode="bicubic")[0]
    np.testing.assert_allclose(out["target"], cubic, atol=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_one_draw_moves_events_target_and_view(tmp_path: Path, seed: int) -> None:
    """The target is the sum of the clean events, so it must stay that: cropped, flipped and turned back alike.

    Their enlargements differ (nearest, bicubic); they agree where the picture is smooth, which it is made to be.
    """
    write_image(tmp_path / "n01" / "n01_0", 0, (24, 32), windows=1, noises=("noisy",))
    folder = tmp_path / "n01" / "n01_0"
    y, x = np.mgrid[:24, :32]
    smooth = np.stack([(1 + b) * np.sin(x / 9 + y / 13) for b in range(BINS)]).astype(np.float32)
    torch.save(torch.from_numpy(smooth), folder / "events/noisy/n01_0_00_noisy_events_voxel_grid.pt")
    torch.save(torch.from_numpy(smooth.sum(0, keepdims=True)), folder / "sub_frames/n01_0_00_sub_frame.pt")
    torch.save(torch.zeros(1, 10, 4), folder / "n01_0_clip_emb.pt")
    augment = {"crop_min": 0.5, "flip": 0.5, "time_flip": 0.5}
    out = filled(training(built(tmp_path, teacher=True, size=(48, 64), augment=augment)), 0, seed)
    events = out["input"].sum(0)
    assert np.abs(out["target"][0] - events).max() < 0.2 * np.abs(events).max()
    left, top, right, bottom, flip = out["view"]
    middle = cv2.getRectSubPix(smooth.sum(0), (1, 1), ((left + right) * 16 - 0.5, (top + bottom) * 12 - 0.5))[0, 0]
    sign = np.sign(events[24, 32] * middle)
    assert abs(out["target"][0, 22:26, 30:34].mean() - sign * middle) < 1
    bins = np.abs(out["input"]).sum((1, 2))
    assert (np.diff(bins) > 0).all() == (sign > 0)  # the bins grow by construction, and are negated with time
    corner = smooth.sum(0)[round(top * 24), round(right * 32) - 1 if flip else round(left * 32)]
    assert abs(out["target"][0, 0, 0] - sign * corner) < 1


def test_windows_crops_and_flips_never_run_in_a_cycle(tmp_path: Path) -> None:
    write_set(tmp_path, 4)
    samples = training(built(tmp_path, teacher=True, augment={"crop_min": 0.3, "flip": 0.5, "time_flip": 0.5}))
    batches = list(islice(Loader(samples, 8, seed=0, num_workers=2)(0), 100))
    views = np.concatenate([batch["view"].numpy() for batch in batches])
    inputs = {row.numpy().tobytes() for batch in batches for row in batch["input"]}
    rng, sensor = np.random.default_rng(0), Sensor(16, 12)
    by_chance = [draw(sensor, (12, 16), samples.augment, rng).view(sensor) for _ in range(800)]
    assert len(np.unique(views, axis=0)) > 0.9 * len(np.unique(by_chance, axis=0))
    # 4 images x 3 windows x 2 directions of time for every view.
    assert len(inputs) > 700


def test_tokens_come_without_the_class_token(tmp_path: Path) -> None:
    write_set(tmp_path)
    stored = tmp_path / "n02" / "n02_1" / "n02_1_clip_emb.pt"
    tokens = torch.arange(40.0).reshape(1, 10, 4)
    torch.save(tokens.half(), stored)
    samples = training(built(tmp_path, teacher=True))
    assert samples.shapes["teacher_tokens"] == (9, 4)
    index = [image.name for image in samples.images].index("n02/n02_1")
    np.testing.assert_array_equal(filled(samples, index, 0)["teacher_tokens"], tokens[0, 1:])


def test_what_is_missing_is_listed_and_left_out(tmp_path: Path) -> None:
    write_set(tmp_path, 4)
    (tmp_path / "n01/n01_0/sub_frames/n01_0_01_sub_frame.pt").unlink()
    (tmp_path / "n02/n02_1/n02_1_clip_emb.pt").unlink()
    for file in (tmp_path / "n01/n01_2/events/noisy").iterdir():
        file.unlink()
    with pytest.warns(UserWarning, match=r"2 windows or images of .* are not whole and are left out, e\.g\. n01/n01_2"):
        samples = built(tmp_path, teacher=True)
    assert samples.problems == {
        "n01/n01_0_01": "has events and no sub_frame",
        "n01/n01_2": "has no files events/noisy/n01_2_*_noisy_events_voxel_grid.pt",
        "n02/n02_1": "has no clip_emb",
    }
    assert [(image.name, image.windows) for image in training(samples).images] == [
        ("n01/n01_0", ("00", "02")),
        ("n02/n02_3", ("00", "01", "02")),
    ]


DAMAGE = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "of another shape": lambda file: torch.save(torch.zeros(BINS - 1, 12, 16), file),
    "no tensor": lambda file: torch.save({"a": 1}, file),
    "code": lambda file: torch.save(Path("x"), file),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["events", "sub_frame", "tokens"])
def test_files_that_are_damaged_are_passed_over(tmp_path: Path, damage: str, kind: str) -> None:
    write_set(tmp_path, 3, windows=1)
    samples = training(built(tmp_path, teacher=True, augment=PLAIN))
    names = {
        "events": "events/noisy/n02_1_00_noisy_events_voxel_grid.pt",
        "sub_frame": "sub_frames/n02_1_00_sub_frame.pt",
        "tokens": "n02_1_clip_emb.pt",
    }
    index = [image.name for image in samples.images].index("n02/n02_1")
    DAMAGE[damage](tmp_path / "n02/n02_1" / names[kind])
    with pytest.warns(UserWarning, match="passed over"):
        found = filled(samples, index, 4)
    expected = filled(samples, (index + 1) % 3, 4)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    (name,) = samples.problems
    assert "n02_1" in name


class Command:
    """What runs when a careless reader unpickles it."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.made,)


def test_files_never_run_code(tmp_path: Path) -> None:
    root, made = tmp_path / "set", tmp_path / "made"
    write_set(root, 2, windows=1)
    samples = training(built(root))
    torch.save(
        Command(made), root / samples.images[0].name / f"sub_frames/{samples.images[0].name[4:]}_00_sub_frame.pt"
    )
    with pytest.warns(UserWarning, match="passed over"):
        filled(samples, 0, 0)
    assert not made.exists()


def test_a_sub_frame_of_another_size(tmp_path: Path) -> None:
    write_set(tmp_path, 1, windows=1)
    samples = training(built(tmp_path))
    torch.save(torch.zeros(1, 12, 15), tmp_path / "n01/n01_0/sub_frames/n01_0_00_sub_frame.pt")
    expected = r"none of the 1 samples can be read, .*has shape \(1, 12, 15\); expected \(1, 12, 16\)"
    with pytest.raises(CollectionError, match=expected), pytest.warns(UserWarning, match="passed over"):
        filled(samples, 0, 0)


def test_images_of_several_sizes_go_into_one_batch(tmp_path: Path) -> None:
    for number, size in enumerate([(12, 16), (30, 9), (8, 40)]):
        write_image(tmp_path / "n01" / f"n01_{number}", number, size)
    samples = training(built(tmp_path, size=(16, 16)))
    (batch,) = islice(Loader(samples, 3, seed=0)(0), 1)
    assert batch["input"].shape == (3, BINS, 16, 16)
    assert torch.isfinite(batch["input"]).all()
    assert torch.isfinite(batch["target"]).all()


def test_images_are_held_out_by_the_hash_of_their_names(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 10, windows=1)
    samples = built(tmp_path / "a", holdout=0.3)
    assert isinstance(samples.held_out, EFImageNetSamples)
    held = {image.name for image in samples.held_out.images}
    kept = {image.name for image in training(samples).images}
    assert (len(held), len(kept), held & kept) == (3, 7, set())
    assert [item.split()[0] for item in samples.identity] == [image.name for image in training(samples).images]
    assert {image.name for image in built(tmp_path / "a", holdout=0.3).held_out.images} == held  # type: ignore[union-attr]
    assert held != {f"n0{1 + n % 2}/n0{1 + n % 2}_{n}" for n in (7, 8, 9)}


def test_identity_tells_names_and_sizes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_set(tmp_path / name, 2, windows=1)
    torch.save(torch.zeros(BINS, 12, 40), tmp_path / "c/n01/n01_0/events/noisy/n01_0_00_noisy_events_voxel_grid.pt")
    one, same, other = (built(tmp_path / name).identity for name in ("a", "b", "c"))
    assert one == same
    assert one[0] != other[0]
    assert one[1] == other[1]


def test_sets_without_targets_serve_a_teacher_only(tmp_path: Path) -> None:
    write_set(tmp_path, 2, targets=False)
    samples = training(built(tmp_path, teacher=True))
    assert set(samples.shapes) == {"input", "view", "teacher_tokens"}
    assert np.isfinite(filled(samples, 0, 0)["input"]).all()
    with pytest.raises(CollectionError, match="no sub_frames, so there is no target to train on"):
        built(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "events"}, r"leave data\.target and data\.difference out"),
        ({"difference": "log"}, r"leave data\.target and data\.difference out"),
        ({"split": "train"}, r"data\.split belongs to recordings, and EF-ImageNet has none"),
        ({"images": "x"}, r"data\.images belongs to recordings"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, values: dict, message: str) -> None:
    write_set(tmp_path, 2)
    with pytest.raises(CollectionError, match=message):
        built(tmp_path, **values)


@pytest.mark.parametrize("representation", [VoxelGrid(3), VoxelGrid(BINS, "window"), PolarityCounts()])
def test_other_representations_cannot_be_made_of_it(tmp_path: Path, representation: object) -> None:
    write_set(tmp_path, 2)
    config = DataConfig(path=str(tmp_path))
    with pytest.raises(CollectionError, match=r"representation\.num_bins=5 representation\.span=events, got"):
        build_samples(open_source(config), config, representation, VoxelGrid(1), (12, 16))  # type: ignore[arg-type]


def test_teachers_that_it_cannot_serve(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 2)
    config = DataConfig(path=str(tmp_path / "a"))
    source = open_source(config)
    with pytest.raises(CollectionError, match="no pictures to show to a teacher; train with the tokens that it brings"):
        build_samples(source, config, VoxelGrid(BINS), VoxelGrid(1), (12, 16), TeacherInput((8, 8)))
    with pytest.raises(CollectionError, match="EF-ImageNet has no pictures to show"):
        scenes_of(source, config)
    assert source.stored is not None
    with pytest.raises(UnreadableError, match="has no picture in EF-ImageNet"):
        source.stored.images[0].read((8, 8))
    write_set(tmp_path / "b", 2, tokens=None)
    assert open_source(DataConfig(path=str(tmp_path / "b"))).tokens is None


def test_one_kind_of_events_that_is_not_there(tmp_path: Path) -> None:
    write_set(tmp_path, 2, noises=("noisy",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_source(DataConfig(path=str(tmp_path)))
    with pytest.raises(CollectionError, match=r"no events of kind data\.noise=clean"):
        open_source(DataConfig(path=str(tmp_path), noise="clean"))
