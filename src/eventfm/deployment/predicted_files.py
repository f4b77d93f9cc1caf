"""Answers of a model to files: arrays, a video, a picture; each as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from eventfm.deployment.predicted_pictures import Drawing
from eventfm.deployment.predicting import ARRAY, Answer, PredictError
from eventfm.io.atomic import atomic_file
from eventfm.registry import MissingExtraError
from eventfm.visualization.video import write_video

NPZ, MP4, PNG = ".npz", ".mp4", ".png"
NAME = "predictions"


def targets(out: str | Path, task: str) -> dict[str, Path]:
    """Return the files to write, by suffix: the one that `out` names, or all of a task in the folder `out`.

    Recognition has no video: nothing in it would move.

    Raises:
        PredictError: `out` is something else, or another kind of file.
    """
    path = Path(out)
    suffix = path.suffix.lower()
    kinds = (NPZ, PNG) if task == "recognition" else (NPZ, MP4, PNG)
    names_a_file = suffix in (NPZ, MP4, PNG)
    if names_a_file and path.is_dir():
        raise PredictError(f"out={out} is a folder; give another name, which ends in {suffix} for one file only")
    if suffix in kinds:
        return {suffix: path}
    if names_a_file:
        raise PredictError("recognition has no video, one answer stands for a whole window; give out=FILE.npz or .png")
    if path.exists() and not path.is_dir():
        raise PredictError(f"out={out} is a file of another kind; give a folder, or a name in .npz, .mp4 or .png")
    if suffix[1:].isalpha() and not path.is_dir():
        raise PredictError(
            f"expected out to be a folder or to end in .npz, .mp4 or .png, got {str(out)!r}; a folder with such a name "
            "must be there already"
        )
    return {kind: path / f"{NAME}{kind}" for kind in kinds}


def write_answers(
    answers: Iterable[Answer],
    count: int,
    files: Mapping[str, Path],
    drawing: Drawing,
    fps: float,
    codec: str,
    done: Callable[[int], None],
) -> None:
    """Write `answers`, `count` of them, to the arrays and the video among `files`, one by one as they come.

    `done` is told how many there were so far. What is interrupted leaves what stood in the places of the files.

    Raises:
        MissingExtraError: There is no PyAV, or no encoder in it, for the video.
        OSError: The system refused to write.
    """
    with ExitStack() as stack:
        keep = stack.enter_context(growing_npz(files[NPZ], drawing, count)) if NPZ in files else None

        def passing() -> Iterator[Answer]:
            for number, answer in enumerate(answers, 1):
                if keep is not None:
                    keep(answer)
                done(number)
                yield answer

        if MP4 not in files:
            for _ in passing():
                pass
            return
        try:
            write_video(files[MP4], (drawing.frame(answer) for answer in passing()), fps, codec)
        except MissingExtraError as error:
            raise MissingExtraError(f"{error}; for the arrays alone, give out=FILE.npz") from error


@contextmanager
def growing_npz(path: Path, drawing: Drawing, count: int) -> Iterator[Callable[[Answer], None]]:
    """Lend a function that adds an answer to the `.npz` at `path`, which is there once all `count` have been added.

    The large array is compressed and written answer by answer, straight into its place in the archive, whose header
    says beforehand how many there will be: memory holds one of them. Small ones follow at the end: `t_us` (W, 2)
    int64, start and end of each window; `classes` (K,), where the task has such; and of recognition `label` (W,)
    int64, the class of the greatest share, and `mean_share` (K,) float32, over all windows.

    Raises:
        OSError: The system refused to write.
    """
    spans: list[tuple[int, int]] = []
    shares: list[NDArray[np.float32]] = []
    name = ARRAY[drawing.task]
    with (
        atomic_file(path, overwrite=True) as temporary,
        ZipFile(temporary, "w", ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:

            def add(answer: Answer) -> None:
                if not spans:
                    _write_header(member, answer.values, count)
                member.write(np.ascontiguousarray(answer.values).tobytes())
                spans.append(answer.t_us)
                if drawing.task == "recognition":
                    shares.append(answer.values)

            yield add
            assert len(spans) == count, (len(spans), count)
        small: dict[str, NDArray[Any]] = {"t_us": np.array(spans, np.int64)}
        if drawing.classes:
            small["classes"] = np.array(drawing.classes)
        if shares:
            small |= {"label": np.argmax(shares, axis=1), "mean_share": np.mean(shares, axis=0, dtype=np.float32)}
        for key, array in small.items():
            with archive.open(f"{key}.npy", "w") as member:
                npy.write_array(member, array, allow_pickle=False)


def _write_header(member: IO[bytes], first: NDArray[Any], count: int) -> None:
    shape = (count, *first.shape)
    described = {"descr": npy.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(member, described)
