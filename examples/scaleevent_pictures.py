"""The pictures of docs/scaleevent.md: what a network is given, what it is compared by, how collapse shows.

    python examples/scaleevent_pictures.py OUT_FOLDER [input|terms|collapse ...]

Everything is made here: a photograph that comes inside scikit-image is set in motion, and the smallest network is
trained on clips of it (about a minute on one core). The teacher is no DINOv3 but a stand-in that one can see: its
tokens are alike where colours are. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from eventfm.data.activity import patch_activity
from eventfm.data.adaptive import active_span
from eventfm.data.transforms import whole
from eventfm.evaluation.collapse import collapse_at_densities
from eventfm.events import Events
from eventfm.methods.activation import active_patches, active_share
from eventfm.methods.distillation import StructureDistillation, build
from eventfm.methods.structure_loss import Form, structure_terms
from eventfm.protocols import Progress
from eventfm.random import generator
from eventfm.representations import EventVolume
from eventfm.representations.event_picture import released_mask
from eventfm.simulation import SensorConfig, make_clip
from eventfm.simulation.paths import translation
from eventfm.simulation.render import Clip
from eventfm.visualization.dense import grey_picture, hide_patches, signed_map
from eventfm.visualization.events import event_picture

SEED = 3
SIZE, PATCH = (192, 256), 16
GRID = SIZE[0] // PATCH, SIZE[1] // PATCH
DIM = 64
NUM_COLOURS = 6
SENSOR = SensorConfig(c_pos=0.25, c_neg=0.25, seed=SEED)
SPEEDS = 15, 60
"""Of the filmed photograph, pixels a second."""
DARK = "#333333"
SIGNS = "blue: ON events, or above 0; vermilion: OFF events, or below 0; white: nothing"
NUM_CLIPS, NUM_STEPS, BATCH = 128, 1500, 8


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("which", nargs="*", help=f"of {', '.join(PICTURES)}; all where none is named")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.which or PICTURES:
        file = arguments.out / f"scaleevent-{name}.png"
        _save(file, PICTURES[name]())
        print(f"{file}: {file.stat().st_size // 1000} kB")


def given() -> Figure:
    """Return what a network is given: a window as long as the motion asks for, its volume, and the active patches."""
    figure, axes = _figure(3, 4, (14.4, 9.6))
    slow, fast = (_filmed(speed) for speed in SPEEDS)
    spans = [active_span(clip.events, 0.3, 64) or (0, 200_000) for clip in (slow, fast)]
    slowly, events = (clip.events.between(*span) for clip, span in zip((slow, fast), spans, strict=True))
    until = [f"until 30 % of\nthe patches are active: {(stop - start) / 1000:.0f} ms" for start, stop in spans]
    cells = [
        ("the frame at the start", grey_picture(fast.first, linear=True)),
        (
            f"{SPEEDS[1]} pixels a second, 100 ms:\nedges smear",
            event_picture(fast.events.between(0, 100_000)),
        ),
        (f"{SPEEDS[1]} pixels a second, {until[1]}", event_picture(events)),
        (f"{SPEEDS[0]} pixels a second, {until[0]}", event_picture(slowly)),
    ]
    for cell, (title, picture) in zip(axes[0], cells, strict=True):
        _show(cell, picture, title)
    grid = EventVolume()(events).numpy()
    for number, cell in enumerate(axes[1][:3]):
        _show(cell, signed_map(grid[number], 1.0), f"event volume of the third picture,\nbin {number + 1} of 3")
    as_colours = np.rint(255 * (0.5 + 0.5 * grid)).astype(np.uint8).transpose(1, 2, 0)
    _show(axes[1][3], as_colours, "the bins as red, green and blue, for\na network that knows pictures")
    activity = patch_activity(events, whole(events.sensor, SIZE), PATCH)
    each = torch.from_numpy(activity)[None]
    masks = [
        ("active by counting: at least 64", active_patches(each, 64)[0].reshape(GRID).numpy()),
        ("active by share: the half with most", active_share(each, 0.5)[0].reshape(GRID).numpy()),
        ("as released, colour on 16 of 256 pixels", released_mask(_on_white(events), GRID)),
    ]
    axes[2][0].imshow(activity, cmap="Greys", extent=(0, SIZE[1], SIZE[0], 0))
    for (row, column), count in np.ndenumerate(activity):
        place = (PATCH * (column + 0.5), PATCH * (row + 0.5))
        ink = "white" if count > activity.max() / 2 else DARK
        axes[2][0].text(*place, f"{count:.0f}", ha="center", va="center", fontsize=7, color=ink)
    _dress(axes[2][0], "its events in each patch\nof 16x16 pixels")
    for cell, (title, active) in zip(axes[2][1:], masks, strict=True):
        _show(cell, hide_patches(event_picture(events), ~active), f"{title}:\n{active.mean():.0%} of the patches")
    figure.supxlabel(f"{SIGNS}; grey patches: left out of the loss", fontsize=12, color=DARK)
    return figure


def terms() -> Figure:
    """Return the three terms of a real pair as matrices of cosines, and what a collapsed student pays."""
    batch, teacher, objective, active = _trained()
    with torch.inference_mode():
        found = objective.inspect(batch)
    student, taught = found["student"][0], found["teacher"][0]
    classes = teacher.classes(batch["teacher_picture"])[0]
    order = classes.argsort(stable=True)
    order = order[active[0][order]]
    own, target = (functional.normalize(tokens[order], dim=1) for tokens in (student, taught))
    among, own_among, across = target @ target.T, own @ own.T, own @ target.T
    borders = np.flatnonzero(np.diff(classes[order].numpy())) + 1

    figure, axes = _figure(3, 4, (14.4, 12.4))
    frame = batch["teacher_picture"][0].permute(1, 2, 0).numpy()
    _show(axes[0][0], np.rint(255 * frame).astype(np.uint8), "the frame, for the teacher")
    _show(axes[0][1], event_picture(_shown()), "the events, for the student")
    shown = active[0].reshape(GRID).numpy()
    for cell, tokens, whose in zip(axes[0][2:], (taught, student), ("teacher", "student"), strict=True):
        picture = hide_patches(_colours(teacher, tokens), ~shown)
        _show(cell, picture, f"tokens of the {whose}, in the colour\nthat they name (grey: not active)")
    matrices = [
        ("T: teacher with teacher", among),
        ("S: student with student", own_among),
        ("X: student with teacher", across),
    ]
    for cell, (title, matrix) in zip(axes[1], matrices, strict=False):
        _matrix(cell, matrix, f"{title}\n{len(order)} active patches each way", borders)
    error = (student - taught).abs().mean(dim=1).reshape(GRID).numpy()
    heat = axes[1][3].imshow(np.where(shown, error, np.nan), cmap="magma_r", vmin=0, extent=(0, SIZE[1], SIZE[0], 0))
    axes[1][3].set_facecolor("#969696")
    _dress(axes[1][3], "token term: mean |K - Q|\nof each active patch")
    figure.colorbar(heat, ax=axes[1][3], shrink=0.6)

    _matrix(axes[2][0], own_among - among, "intra term: S - T", borders)
    _matrix(axes[2][1], across - among, "cross term: X - T", borders)
    collapsed = target.mean(dim=0, keepdim=True).expand_as(target)
    paid = {form: f"{_intra(collapsed, target, form):.3f}" for form in ("robust", "released")}
    excess = 1 - among  # all its cosines are 1
    _matrix(axes[2][2], excess, f"S - T of a collapsed student:\nits intra term is {paid['robust']} (robust)", borders)
    counted = f"the same where T > 0.1, which alone\ncounts as released: {paid['released']}"
    _matrix(axes[2][3], excess * (among > 0.1), counted, borders)
    figure.supxlabel(
        "matrices: rows and columns are active patches, by the colour that the teacher names, lines between; "
        "blue: up to 1, white: 0, vermilion: down to -1.\nThe teacher is a stand-in: a token says how near the patch "
        f"is to each of {NUM_COLOURS} colours.\nThe student has learnt for {NUM_STEPS:,} steps from {NUM_CLIPS} other "
        "clips of this photograph.",
        fontsize=12,
        color=DARK,
    )
    return figure


def collapse() -> Figure:
    """Return the student's tokens at three densities beside the teacher's, with the figures of collapse."""
    batch, _, objective, active = _trained()
    teachers = [StandIn(density) for density in (1, 2, 4)]
    with torch.inference_mode():
        records = collapse_at_densities(objective.backbone, teachers, batch, (1, 2, 4), active)
        maps = [
            objective.backbone(functional.interpolate(batch["input"], scale_factor=float(factor), mode="bilinear"))
            for factor in (1, 2, 4)
        ]
    figure, axes = _figure(2, 4, (14.4, 7.6))
    frame = batch["teacher_picture"][0].permute(1, 2, 0).numpy()
    _show(axes[0][0], event_picture(_shown()), "the events")
    _show(axes[1][0], np.rint(255 * frame).astype(np.uint8), "the frame")
    for column, (features, asked, record) in enumerate(zip(maps, teachers, records, strict=True), 1):
        factor = int(record["density"])
        rows, cols = features.grid
        seen = _repeated(active[0].reshape(GRID).numpy(), factor)
        taught = asked(batch["teacher_picture"])[0]
        for cell, tokens, head in (
            (axes[0][column], features.tokens[0], "student"),
            (axes[1][column], taught, "teacher"),
        ):
            prefix = "" if head == "student" else "teacher_"
            what = f"{head} x{factor}: {cols}x{rows} tokens\nrank {record[prefix + 'effective_rank']:.1f}, "
            what += f"mean cosine {record[prefix + 'mean_cosine']:.2f}"
            if head == "student":
                what += f"\nneighbours {record['neighbour_overlap']:.2f} ({record['neighbour_chance']:.2f} by chance), "
                what += f"CKA {record['cka']:.2f}"
            _show(cell, hide_patches(_colours(asked, tokens, features.grid), ~seen), what)
    figure.supxlabel(
        "tokens in the colour that they name; grey: not active. A collapsed student has a lower rank and a higher "
        "cosine than its teacher.\nThe student was trained at x1 alone; its teacher, a stand-in, names colours at any "
        "density.",
        fontsize=12,
        color=DARK,
    )
    return figure


class StandIn:
    """A teacher whose tokens say how near the mean colour of a patch is to each of a few colours."""

    def __init__(self, density: int = 1) -> None:
        self.dim = DIM
        self.grid = GRID[0] * density, GRID[1] * density
        self.input_size = SIZE
        self.identity: dict[str, Any] = {"name": "stand-in"}
        self.palette = _palette()
        directions = generator(SEED, "directions").normal(size=(DIM, NUM_COLOURS))
        self.directions = torch.from_numpy(np.linalg.qr(directions)[0].astype(np.float32))

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return tokens (B, N, DIM) of length sqrt(DIM) for pictures (B, 3, H, W) in [0, 1]."""
        return DIM**0.5 * functional.normalize(self.shares(pictures) @ self.directions.T, dim=2)

    def shares(self, pictures: Tensor) -> Tensor:
        """Return how near each patch is to each colour, (B, N, NUM_COLOURS), of sum 1."""
        means = functional.adaptive_avg_pool2d(pictures, self.grid).flatten(2).mT
        return (-60 * (means[:, :, None] - self.palette).square().sum(dim=3)).softmax(dim=2)

    def classes(self, pictures: Tensor) -> Tensor:
        """Return the number of the nearest colour of each patch, (B, N)."""
        return self.shares(pictures).argmax(dim=2)

    def named(self, tokens: Tensor) -> Tensor:
        """Return the colour that each token (N, DIM) names, (N, 3)."""
        return (4 * functional.normalize(tokens, dim=1) @ self.directions).softmax(dim=1) @ self.palette


@cache
def _trained() -> tuple[dict[str, Tensor], StandIn, StructureDistillation, Tensor]:
    """Return a clip that was not learnt from as a batch, the teacher, the trained objective, and what is active."""
    torch.manual_seed(SEED)
    teacher = StandIn()
    objective = build(
        {"name": "distillation", "backbone": {"name": "dinov3_nano"}, "form": "robust", "mask": {"threshold": 64}},
        3, SIZE, teacher,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, NUM_STEPS)
    made = [_sample(number) for number in range(NUM_CLIPS)]
    for step in range(NUM_STEPS):
        chosen = torch.randint(NUM_CLIPS, (BATCH,)).tolist()
        batch = {name: torch.cat([made[number][name] for number in chosen]) for name in made[0]}
        out = objective(batch, Progress(step, NUM_STEPS))
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
        schedule.step()
    batch = _sample(NUM_CLIPS)
    return batch, teacher, objective.eval(), objective.active(batch, GRID)


def _sample(number: int) -> dict[str, Tensor]:
    """Return a batch of one: the photograph from a place of its own, moving one way."""
    clip, events, picture = _clip(number)
    activity = patch_activity(events, whole(clip.events.sensor, SIZE), PATCH)
    return {
        "input": EventVolume()(events)[None],
        "teacher_picture": torch.from_numpy(picture).permute(2, 0, 1)[None],
        "view": torch.tensor([[0.0, 0, 1, 1, 0]]),
        "activity": torch.from_numpy(activity)[None],
    }


@cache
def _clip(number: int) -> tuple[Clip, Events, NDArray[np.float32]]:
    """Return a clip, the events of its adaptive window, and the frame at its start in colours, (H, W, 3) in [0, 1]."""
    photograph = _photograph()
    draws = generator(SEED, "clip", number)
    top, left = (int(draws.integers(0, have - need + 1)) for have, need in zip(photograph.shape, SIZE, strict=False))
    part = photograph[top : top + SIZE[0], left : left + SIZE[1]]
    angle = draws.uniform(0, 2 * np.pi)
    path = translation(150 * np.cos(angle), 150 * np.sin(angle))
    clip = make_clip(part, path, (0, 100_000), SIZE, SENSOR, number)
    span = active_span(clip.events, 0.5, 64) or clip.events.window
    return clip, clip.events.between(*span), (part / 255).astype(np.float32)


def _shown() -> Events:
    return _clip(NUM_CLIPS)[1]


def _filmed(speed: float) -> Clip:
    """Return 200 ms of the photograph at `speed` pixels a second."""
    path = translation(0.8 * speed, 0.6 * speed)
    return make_clip(_photograph(), path, (0, 200_000), SIZE, SENSOR)


@cache
def _photograph() -> NDArray[np.uint8]:
    """Return a photograph of a cup on a table, (H, W, 3) sRGB, small enough for the sensor to see much of it."""
    from skimage import data

    picture = Image.fromarray(np.asarray(data.coffee()))
    return np.asarray(picture.resize((384, 256), Image.Resampling.LANCZOS))


@cache
def _palette() -> Tensor:
    """Return the colours of the photograph's patches that stand for the others, (NUM_COLOURS, 3) in [0, 1]."""
    from sklearn.cluster import KMeans

    pixels = _photograph()[::PATCH, ::PATCH].reshape(-1, 3) / 255
    return torch.from_numpy(KMeans(NUM_COLOURS, n_init=4, random_state=0).fit(pixels).cluster_centers_).float()


def _intra(tokens: Tensor, target: Tensor, form: Form) -> float:
    everywhere = torch.ones(1, len(target), dtype=torch.bool)
    return structure_terms(tokens[None], target[None], everywhere, form, terms=("intra",)).intra.item()


def _on_white(events: Events) -> NDArray[np.uint8]:
    """Return events in red and blue on white ground, as the pictures that the released mask is read from."""
    out = np.full((events.sensor.height, events.sensor.width, 3), 255, np.uint8)
    out[events.y, events.x] = np.where(events.p[:, None] > 0, (255, 0, 0), (0, 0, 255)).astype(np.uint8)
    return out


def _colours(teacher: StandIn, tokens: Tensor, grid: tuple[int, int] = GRID) -> NDArray[np.uint8]:
    named = np.rint(255 * teacher.named(tokens).numpy()).clip(0, 255).astype(np.uint8)
    side = SIZE[0] // grid[0]
    return _repeated(named.reshape(*grid, 3), side)


def _repeated(values: NDArray[Any], factor: int) -> NDArray[Any]:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=size, dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, color=DARK)
    axes.set(xticks=[], yticks=[])


def _show(axes: Axes, picture: NDArray[Any], title: str) -> None:
    axes.imshow(picture, interpolation="nearest", cmap="gray")
    _dress(axes, title)


def _matrix(axes: Axes, values: Tensor, title: str, borders: Sequence[int]) -> None:
    """Show cosines or differences, with lines between the groups of patches."""
    axes.imshow(signed_map(values.numpy(), 1.0), interpolation="nearest")
    for border in borders:
        for line in (axes.axhline, axes.axvline):
            line(border - 0.5, color=DARK, linewidth=0.5)
    _dress(axes, title)


def _save(file: Path, figure: Figure) -> None:
    """Write `figure` in 256 colours, which no eye will miss and which take half the room."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    Image.fromarray(pixels).quantize(256).save(file, optimize=True)


PICTURES = {"input": given, "terms": terms, "collapse": collapse}

if __name__ == "__main__":
    main()
