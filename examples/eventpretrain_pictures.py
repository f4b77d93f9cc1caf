"""The pictures of docs/eventpretrain.md: stage 1, what is hidden, how geometry is shared, what is compared.

    python examples/eventpretrain_pictures.py OUT_FOLDER [stage1|masks|geometry|contrast ...]

Everything is made here: photographs that come inside scikit-image are set in motion, and a small network is trained on
two of them (half a minute on one core). Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from eventfm.data.animate import MotionConfig, random_clip, read_picture
from eventfm.data.pictures import decode, resized
from eventfm.data.transforms import Geometry
from eventfm.events import Events, Sensor
from eventfm.methods.difference import build, patch_activity
from eventfm.models.masking import cells_of_units, density_masking, random_masking
from eventfm.models.sparse_windows import arrange_windows
from eventfm.models.token_grid import crop_tokens
from eventfm.protocols import Progress
from eventfm.random import generator
from eventfm.representations import VoxelGrid
from eventfm.simulation import SensorConfig, make_clip
from eventfm.simulation.paths import translation
from eventfm.simulation.render import Clip
from eventfm.visualization.dense import hide_patches, signed_limit, signed_map
from eventfm.visualization.events import event_picture
from eventfm.visualization.files import save_picture

SEED = 4
ON, OFF, HIDDEN, DARK = ("#0072b2", "#d55e00", "#969696", "#333333")
CROP = "#e6007e"
SIGNS = "blue: ON events, or it got brighter; vermilion: OFF events, or it got darker"


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("which", nargs="*", help=f"of {', '.join(PICTURES)}; all where none is named")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.which or PICTURES:
            file = arguments.out / f"eventpretrain-{name}.png"
            _save(file, PICTURES[name](Path(folder)))
            print(f"{file}: {file.stat().st_size // 1000} kB")


def stage1(folder: Path, num_steps: int = 1600, num_clips: int = 512, batch_size: int = 16) -> Figure:
    """Return stage 1 from a photograph to what a network draws that has learnt a little, from other clips."""
    patch, size = 8, (64, 64)
    files = _photographs(folder, ("coffee", "chelsea"))
    lights = [read_picture(file) for file in files]
    config = {
        "name": "difference",
        "backbone": {"name": "vit_nano", "arguments": {"patch_size": patch}},
        "decoder": {"dim": 64, "depth": 1, "num_heads": 4},
    }
    torch.manual_seed(SEED)
    objective = build(config, 5, size)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, num_steps)
    made = [_steady_clip(lights[number % 2], size, number) for number in range(num_clips)]
    for step in range(num_steps):
        chosen = torch.randint(num_clips, (batch_size,))
        batch = _batch([made[int(number)] for number in chosen], chosen + num_clips * step)  # masks are new each time
        loss = objective(batch, Progress(step, num_steps))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    clip = _steady_clip(lights[0], size, num_clips)
    batch = _batch([clip], torch.tensor([SEED]))
    drawn = {key: value[0].numpy() for key, value in objective.eval().reconstruct(batch).items()}
    events, hidden = event_picture(clip.events), drawn["mask"][::patch, ::patch] > 0
    limit = signed_limit(drawn["target"])
    cells = [
        ("1. a photograph", decode(files[0])),
        ("2. a camera moves before it:\nframe at the start", _seen(clip.first)),
        ("3. frame at the end,\n50 ms later", _seen(clip.last)),
        ("4. frame 3 minus frame 2:\nno sensor noise in it", signed_map(batch["target"][0, 0].numpy())),
        ("5. events between the two frames", events),
        ("6. what the network sees:\nhalf of the patches", hide_patches(events, hidden)),
        ("7. what it has to draw: 4 where it saw\nnothing, each patch at mean 0, spread 1",
         hide_patches(signed_map(drawn["target"], limit), ~hidden)),
        (f"8. what it draws after {num_steps} steps",
         hide_patches(signed_map(drawn["prediction"], limit), ~hidden)),
    ]  # fmt: skip
    figure, axes = _figure(2, 4, (13.6, 7.6))
    for cell, (title, picture) in zip(axes[0] + axes[1], cells, strict=True):
        _show(cell, picture, title)
    figure.supxlabel(f"{SIGNS}; grey: hidden from the network, or not asked for", fontsize=12, color=DARK)
    return figure


def masks(folder: Path) -> Figure:
    """Return what is hidden by which rule, and what each backbone computes of what is left."""
    side, unit = 224, 16
    (path,) = _photographs(folder, ("coffee",))
    motion = MotionConfig(sensor=(side, side), speed_px_s=(150, 150), threshold=(0.2, 0.2))
    clip, _ = random_clip(read_picture(path), motion, Sensor(side, side), generator(SEED, "masks"))
    events = event_picture(clip.events)
    x = torch.from_numpy(VoxelGrid(5)(clip.events).numpy())[None]
    key = torch.tensor([SEED])
    activity = patch_activity(x, unit)
    figure, axes = _figure(3, 4, (13.6, 12.6))

    _show(axes[0][0], events, "events of a window, 224x224,\n14x14 patches of 16 pixels", grid=14)
    keep, _, mask = random_masking(key, 14 * 14, 0.5)
    rules = [("mask: random\n(published)", mask)]
    for order in ("density", "anti-density"):
        rules.append(
            (f"mask: {order}\n(with noise: new in every epoch)", density_masking(key, activity, 0.5, order, 0.5)[2])
        )
    for cell, (title, hidden) in zip(axes[0][1:], rules, strict=True):
        _show(cell, hide_patches(events, _bools(hidden, 14)), title)

    gathered = np.concatenate([_patch(events, int(number), unit, 14) for number in keep[0].sort().values], axis=1)
    packed = np.concatenate(np.split(gathered, 7, axis=1))
    _show(axes[1][0], packed, "ViT: the 98 visible patches are\ngathered; the others are never computed", grid=(7, 14))
    hidden = _bools(mask, 14)
    for cell, cells in zip(axes[1][1:], (56, 28, 14), strict=True):
        fine = hidden.repeat(cells // 14, 0).repeat(cells // 14, 1)
        stage = {
            56: "5x5 convolutions, 56x56 cells:",
            28: "5x5 convolutions, 28x28 cells:",
            14: "attention, 14x14 tokens:",
        }
        what = "one mask, 16 cells a patch" if cells == 56 else "the same mask, 4 cells a patch"
        title = f"ConvViT, {stage[cells]}\n{what if cells > 14 else 'visible ones are gathered'}"
        _show(cell, hide_patches(_coarse(clip.events, cells), fine), title, grid=cells)

    for column, sample in enumerate((0, 1)):
        keep, _, mask = random_masking(torch.tensor([SEED, SEED + 1]), 7 * 7, 0.5)
        title = f"Swin: mask of 7x7 units of 32 pixels,\nsample {sample + 1} of a batch: each its own"
        _show(axes[2][column], hide_patches(events, _bools(mask[sample : sample + 1], 7)), title, grid=7)
    for column, shift in ((2, 0), (3, 3)):
        title = "Swin, 56x56 cells, sample 2:\n" + ("windows shifted by 3" if shift else "windows of 7x7")
        _show(axes[2][column], _windows(keep[1:], 56, shift), title)
    figure.supxlabel(
        f"{SIGNS}; grey: hidden, never computed.\nIn the last two: cells of one colour attend to each other, cells of "
        "two colours do not (colours themselves mean nothing).",
        fontsize=12,
        color=DARK,
    )
    return figure


def geometry(folder: Path) -> Figure:
    """Return how a teacher's tokens are cropped and flipped as the events were."""
    sensor, side, grid = Sensor(240, 180), 224, 14
    (path,) = _photographs(folder, ("coffee",))
    motion = MotionConfig(sensor=(240, 180), speed_px_s=(120, 120), threshold=(0.2, 0.2))
    clip, way = random_clip(read_picture(path), motion, sensor, generator(SEED, "geometry"))
    drawn = Geometry(left=6, top=14, width=170, height=158, out=(side, side), flip=True)
    view = drawn.view(sensor, way.at(motion.duration_us / 2))
    picture = np.rint(255 * resized(decode(path), (side, side), (180, 240)).transpose(1, 2, 0)).astype(np.uint8)
    # A stand-in that one can see: the mean colour of a patch is its token.
    tokens = picture.reshape(grid, 16, grid, 16, 3).mean((1, 3), dtype=np.float32).reshape(1, -1, 3)
    cropped = crop_tokens(torch.from_numpy(tokens), (grid, grid), torch.from_numpy(view)[None], (grid, grid)).numpy()
    seen = event_picture(drawn.events(clip.events))
    seen = seen[np.arange(side) * len(seen) // side][:, np.arange(side) * seen.shape[1] // side]

    figure, axes = _figure(2, 3, (12.6, 10.2))
    _show(axes[0][0], event_picture(clip.events), "A. events of the whole sensor, 240x180;\nframe: the random crop")
    axes[0][0].add_patch(_box(drawn.left, drawn.top, drawn.width, drawn.height))
    _show(axes[0][1], picture, "B. the teacher's picture: all that the\nsensor looks at, brought to 224x224", grid=grid)
    _show(axes[0][2], _colours(tokens, grid), "C. the teacher's 14x14 tokens\n(here: mean colour of each patch)")
    left, top, right, bottom, _ = view * side
    for cell in axes[0][1:]:
        cell.add_patch(_box(left, top, right - left, bottom - top))
    _show(axes[1][0], seen, "D. the crop, flipped left to right:\nwhat the student gets, 14x14 patches", grid=grid)
    titles = (
        "E. tokens of C cropped and flipped\nby the same numbers, under the events D",
        "F. as_published: tokens of C as they are\nunder the events D: another place",
    )
    for cell, values, title in zip(axes[1][1:], (cropped, tokens), titles, strict=True):
        _show(cell, _under(_colours(values, grid), seen), title, grid=grid)
    figure.supxlabel(
        "pink: the part that is cropped, as `view` says it (the picture at rest, half-way through the movement).\n"
        "In E and F the events are drawn black over the tokens: outlines of the cup fit the colours in E alone.",
        fontsize=12,
        color=DARK,
    )
    return figure


def contrast(folder: Path) -> Figure:
    """Return a drawing of what stages 2 and 3 compare, and of what learns in which."""
    figure = Figure(figsize=(15, 7.6), dpi=80)
    FigureCanvasAgg(figure)
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, 150), ylim=(0, 76))
    page.axis("off")

    _grid_of(page, 4, 46, "#cfe3f1", "tokens of the events\n(one sample of the batch)")
    _grid_of(page, 4, 12, "#f6dcc8", "tokens of the teacher,\ncropped and flipped alike")
    _boxed(page, 36, 51, 22, 10, "projector,\npredictor", "#cfe3f1")
    _boxed(page, 36, 17, 22, 10, "LayerNorm,\nlinear layer", "#f6dcc8")
    for y in (56, 22):
        _arrow(page, (26, y), (36, y))
        _arrow(page, (58, y), (66, y))
    _boxed(page, 66, 52.5, 10, 7, "query q", "#0072b2", "white")
    _boxed(page, 66, 18.5, 10, 7, "key k", "#d55e00", "white")

    page.text(92, 71.5, "queue: a list of its own for every position", fontsize=13, weight="bold", color=DARK)
    for position in range(4):
        mine = position == 1
        y = 64 - 7 * position
        ink, fill = (CROP, "#f6dcc8") if mine else (HIDDEN, "#eeeeee")
        page.text(133, y + 1.7, f"position {position + 1}", fontsize=11, color=ink)
        for entry in range(8):
            page.add_patch(Rectangle((92 + 5 * entry, y), 4.6, 5, facecolor=fill, edgecolor=ink))
    text = "K = 1024 keys each, of earlier samples at the same position;\nthe oldest make room for the newest"
    page.text(92, 37.2, text, fontsize=11, color=DARK)
    _arrow(page, (76.3, 56), (91.5, 59.5), ON, "negatives:\npush apart", (78, 62))
    _arrow(page, (71, 52), (71, 26), ON, "positive:\npull together", (72.5, 37))
    _arrow(page, (76.3, 22), (97, 36), OFF, "after the step,\nk joins the queue", (80, 19), dashed=True)

    page.add_patch(Rectangle((9.3, 62.2 - 5.5), 5, 5, fill=False, edgecolor=CROP, linewidth=3))
    page.add_patch(Rectangle((9.3, 28.2 - 5.5), 5, 5, fill=False, edgecolor=CROP, linewidth=3))
    page.text(
        4, 4.2,
        "pink: one position; the other 195 do the same, each by itself.   loss = - log of  exp(q.k / T)  over  "
        "[ exp(q.k / T) + sum over its queue of exp(q.n / T) ],   T = 0.07, all of length 1,\n"
        "mean over samples and positions.   The gradient goes through q, and through the positive k into its linear "
        "layer; queue and teacher are fixed.",
        fontsize=11.5, color=DARK,
    )  # fmt: skip
    rows = (
        ("", "stage 2: transition", "stage 3: contrast"),
        ("backbone", "fixed", "learns"),
        ("its last LayerNorm", "learns", "learns"),
        ("heads (boxes on the left)", "learn", "learn"),
        ("teacher", "fixed", "fixed"),
    )
    for number, row in enumerate(rows):
        for x, text in zip((102, 126, 140), row, strict=True):
            weight = "bold" if number == 0 else "normal"
            colour = {"fixed": "#777777", "learns": ON, "learn": ON}.get(text, DARK)
            label = text.replace(": ", ":\n")
            page.text(x, 27 - 3.4 * number, label, fontsize=11, weight=weight, color=colour, va="bottom")
    return figure


def _steady_clip(light: NDArray[np.float32], size: tuple[int, int], number: int) -> Clip:
    """Return a clip of 50 ms of a picture that moves 4 pixels one way; `number` says which."""
    angle = generator(SEED, "direction", number).uniform(0, 2 * np.pi)
    sensor = SensorConfig(c_pos=0.2, c_neg=0.2, seed=number)
    return make_clip(light, translation(80 * np.cos(angle), 80 * np.sin(angle)), (0, 50_000), size, sensor)


def _batch(clips: Sequence[Clip], keys: torch.Tensor) -> dict[str, torch.Tensor]:
    inputs = np.stack([VoxelGrid(5)(clip.events).numpy() for clip in clips])
    targets = np.stack([clip.last - clip.first for clip in clips])[:, None]
    return {"input": torch.from_numpy(inputs), "target": torch.from_numpy(targets), "key": keys}


def _photographs(folder: Path, names: Sequence[str]) -> list[Path]:
    """Write photographs of scikit-image as files and return these."""
    from skimage import data

    files = [folder / f"{name}.png" for name in names]
    for name, file in zip(names, files, strict=True):
        if not file.exists():
            save_picture(file, np.asarray(getattr(data, name)()))
    return files


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=size, dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def _show(axes: Axes, picture: NDArray[Any], title: str, grid: int | tuple[int, int] = 0) -> None:
    """Show `picture`, with lines between the cells of `grid` (rows, columns)."""
    height, width = picture.shape[:2]
    axes.imshow(picture, interpolation="nearest", extent=(0, width, height, 0), cmap="gray")
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    thin = {"color": DARK, "linewidth": 0.3 if max(rows, columns) > 20 else 0.6, "alpha": 0.6}
    for row in range(1, rows):
        axes.axhline(row * height / rows, **thin)
    for column in range(1, columns):
        axes.axvline(column * width / columns, **thin)
    axes.set_title(title, fontsize=11, color=DARK)
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))


def _seen(light: NDArray[Any]) -> NDArray[np.uint8]:
    from eventfm.visualization.dense import grey_picture

    return grey_picture(light / (65535 if light.dtype == np.uint16 else 1), linear=True)


def _bools(mask: torch.Tensor, side: int) -> NDArray[np.bool_]:
    return mask[0].reshape(side, side).numpy() > 0


def _patch(picture: NDArray[np.uint8], number: int, side: int, columns: int) -> NDArray[np.uint8]:
    row, column = divmod(number, columns)
    return picture[row * side : (row + 1) * side, column * side : (column + 1) * side]


def _coarse(events: Events, side: int) -> NDArray[np.uint8]:
    """Return the events added up in `side` x `side` cells."""
    return event_picture(Geometry(0, 0, events.sensor.width, events.sensor.height, (side, side)).events(events))


def _windows(keep: torch.Tensor, side: int, shift: int) -> NDArray[np.uint8]:
    """Return the cells that attend to each other in one colour, hidden ones grey."""
    cells = cells_of_units(keep, (side, side), side // 7)
    windows = arrange_windows(cells, (side, side), 7, shift)
    num_windows, slots = windows.source.shape[1:]
    assert windows.hidden is not None
    together = ~windows.hidden[0].expand(num_windows, slots, slots)
    group = together.int().argmax(dim=2) + slots * torch.arange(num_windows)[:, None]  # the first slot that it sees
    draws = generator(SEED, "colours").permutation(num_windows * slots) / (num_windows * slots)
    colours = np.rint(255 * hsv_to_rgb(np.stack([draws, 0.45 + draws * 7 % 0.5, 0.75 + draws * 13 % 0.25], 1)))
    out = np.full((side * side, 3), (150, 150, 150), np.uint8)
    out[cells[0].numpy()] = colours[group.flatten()[windows.place].numpy()].astype(np.uint8)
    return out.reshape(side, side, 3)


def _colours(tokens: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    return np.rint(tokens[0].reshape(side, side, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)


def _under(picture: NDArray[np.uint8], events: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `picture` a little faded, black where there are many events."""
    many = events.min(axis=2, keepdims=True) < 90
    return np.where(many, 0, 0.75 * picture + 64).astype(np.uint8)


def _box(x: float, y: float, width: float, height: float) -> Rectangle:
    return Rectangle((x, y), width, height, fill=False, edgecolor=CROP, linewidth=3)


def _grid_of(page: Axes, x: float, y: float, colour: str, text: str) -> None:
    for row in range(4):
        for column in range(4):
            page.add_patch(Rectangle((x + 5.3 * column, y + 5.3 * row), 5, 5, facecolor=colour, edgecolor=HIDDEN))
    page.text(x, y + 22.3, text, fontsize=11.5, color=DARK, va="bottom")


def _boxed(
    page: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, ink: str = DARK
) -> None:
    page.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.2", facecolor=colour, edgecolor=HIDDEN))
    page.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=12, color=ink)


def _arrow(
    page: Axes,
    start: tuple[float, float],
    stop: tuple[float, float],
    colour: str = DARK,
    text: str = "",
    at: tuple[float, float] = (0, 0),
    dashed: bool = False,
) -> None:
    style = "--" if dashed else "-"
    page.add_patch(
        FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=16, linewidth=2, color=colour, linestyle=style)
    )
    page.text(*at, text, fontsize=11.5, color=colour)


def _save(file: Path, figure: Figure) -> None:
    """Write `figure` in 256 colours, which no eye will miss and which take half the room."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    Image.fromarray(pixels).quantize(256).save(file, optimize=True)


PICTURES = {"stage1": stage1, "masks": masks, "geometry": geometry, "contrast": contrast}

if __name__ == "__main__":
    main()
