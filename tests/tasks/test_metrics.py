"""What all metrics share: pooling over batches, orders and ranks; nothing measured; the table of tasks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eventfm.tasks.metric_checks import NothingMeasuredError
from eventfm.tasks.metrics import SELECT, TaskMetrics, build_metrics

Said = tuple[dict[str, Tensor], dict[str, Tensor]]


def said_of(task: str, count: int = 6) -> Said:
    """Return a prediction and a batch of `count` samples with unknown pixels, unevenly many in each sample."""
    draw = torch.Generator().manual_seed(3)
    unknown = torch.rand(count, 5, 7, generator=draw) < torch.linspace(0.1, 0.9, count)[:, None, None]
    normal = torch.randn(count, 8, 5, 7, generator=draw)
    if task == "recognition":
        return {"logits": normal[:, :, 0, 0]}, {"label": torch.arange(count) % 8}
    if task == "segmentation":
        label = torch.randint(0, 8, (count, 5, 7), generator=draw)
        return {"logits": normal}, {"semantic": label.masked_fill(unknown, 255)}
    if task == "flow":
        label = 4 * normal[:, 2:4]
        seen = (normal[:, 4] > 0).float()
        return {"flow": 4 * normal[:, :2]}, {"flow": label.masked_fill(unknown[:, None], torch.nan), "seen": seen}
    depth = 15 * normal[:, :2].exp()
    return {"depth": depth[:, :1]}, {"depth": depth[:, 1:].masked_fill(unknown[:, None], torch.nan)}


def fresh(task: str) -> TaskMetrics:
    return build_metrics(task, 8 if task in ("recognition", "segmentation") else None)


def part(said: Said, rows: list[int]) -> Said:
    prediction, batch = ({key: value[rows] for key, value in side.items()} for side in said)
    return prediction, batch


def figures_of(task: str, parts: list[list[int]]) -> dict[str, float]:
    metrics, said = fresh(task), said_of(task)
    for rows in parts:
        metrics.update(*part(said, rows))
    return metrics.compute()


@pytest.mark.parametrize("task", SELECT)
def test_neither_batches_nor_order_matter(task: str) -> None:
    """Means over batches would differ, since the samples have unequal numbers of pixels."""
    whole = figures_of(task, [[0, 1, 2, 3, 4, 5]])
    for parts in ([[0], [1], [2], [3], [4], [5]], [[5, 2], [0, 1, 4, 3]], [[], [3, 1, 0], [2, 5, 4]]):
        assert figures_of(task, parts) == pytest.approx(whole, rel=1e-12)
    if task != "recognition":
        by_sample = [figures_of(task, [[i]]) for i in range(6)]
        name = SELECT[task][0]
        assert abs(sum(figures[name] for figures in by_sample) / 6 - whole[name]) > 1e-4


@pytest.mark.parametrize("task", SELECT)
def test_sums_of_samples_give_the_same_figures(task: str) -> None:
    metrics, said = fresh(task), said_of(task)
    rows = metrics.per_sample(*said)
    assert rows.dtype == torch.float64
    assert not metrics.sums.any(), "per_sample must not add"
    metrics.update(*said)
    assert metrics.from_sums(rows.sum(0)) == pytest.approx(metrics.compute(), rel=1e-12)
    assert metrics.from_sums(rows.sum(0).numpy()) == pytest.approx(metrics.compute(), rel=1e-12)
    alone = [metrics.per_sample(*part(said, [i]))[0] for i in range(6)]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("task", SELECT)
def test_figures_are_floats_and_the_selected_one_is_among_them(task: str) -> None:
    figures = figures_of(task, [[0, 1, 2]])
    assert SELECT[task][0] in figures
    assert all(type(value) is float for value in figures.values())


@pytest.mark.parametrize("task", SELECT)
def test_ranks_add_up(task: str) -> None:
    """As torchmetrics reduces over ranks: the state of each is gathered and summed."""
    said = said_of(task)
    others = fresh(task)
    others.update(*part(said, [0, 1, 2, 3]))
    mine = fresh(task)
    mine.dist_sync_fn = lambda state, group: [state, others.sums]
    mine.distributed_available_fn = lambda: True
    mine.update(*part(said, [4, 5]))
    assert mine.compute() == pytest.approx(figures_of(task, [[0, 1, 2, 3, 4, 5]]), rel=1e-12)
    torch.testing.assert_close(mine.sums, fresh(task).per_sample(*part(said, [4, 5])).sum(0))
    with mine.sync_context(dist_sync_fn=mine.dist_sync_fn):
        torch.testing.assert_close(mine.sums, fresh(task).per_sample(*said).sum(0))


@pytest.mark.parametrize("task", SELECT)
def test_nothing_measured_is_said_and_reset_forgets(task: str) -> None:
    metrics, said = fresh(task), said_of(task)
    metrics.update(*said)
    first = metrics.compute()
    metrics.reset()
    metrics.update(*part(said, []))
    with pytest.raises(NothingMeasuredError, match=r"no sample|nothing to measure"):
        metrics.compute()
    metrics.update(*said)
    assert metrics.compute() == pytest.approx(first, rel=1e-12)


def test_no_gradient_is_kept() -> None:
    prediction, batch = said_of("flow")
    prediction["flow"].requires_grad_()
    assert not fresh("flow").per_sample(prediction, batch).requires_grad


@pytest.mark.parametrize(
    ("task", "key", "message"),
    [
        ("recognition", "label", "expected 'label' in the batch, got nothing"),
        ("segmentation", "semantic", "expected 'semantic' in the batch"),
        ("flow", "seen", r"expected 'seen' in the batch, got \['flow'\]"),
        ("depth", "depth", "expected 'depth' in the batch"),
    ],
)
def test_a_missing_key_is_named(task: str, key: str, message: str) -> None:
    prediction, batch = said_of(task)
    del batch[key]
    with pytest.raises(ValueError, match=message):
        fresh(task).update(prediction, batch)


@pytest.mark.parametrize("task", ["segmentation", "flow", "depth"])
def test_a_prediction_of_another_size_is_refused(task: str) -> None:
    prediction, batch = said_of(task)
    small = {key: value[..., :3] for key, value in prediction.items()}
    with pytest.raises(ValueError, match="resize predictions to the label"):
        fresh(task).update(small, batch)
    flat = {key: value[:, 0] for key, value in prediction.items()}
    with pytest.raises(ValueError, match="with 4 dimensions, got shape"):
        fresh(task).update(flat, batch)


def test_unknown_tasks_and_options_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="unknown task 'flows'; did you mean 'flow'"):
        build_metrics("flows")
    with pytest.raises(ValueError, match="expected a number of classes"):
        build_metrics("segmentation")
    with pytest.raises(ValueError, match="options of depth, got them for flow"):
        build_metrics("flow", max_depth=80.0)
    with pytest.raises(ValueError, match="expected 1 to 255 classes"):
        build_metrics("segmentation", 256)
