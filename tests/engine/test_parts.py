"""The small parts of a step: loss scale, guard, stop request, feed, seeds, window."""

import os
import signal
import threading

import pytest
import torch
from engine_toy import ToyBatches

from eventfm.engine import guard
from eventfm.engine.feed import Feed, to_device
from eventfm.engine.guard import FiniteGuard, StopRequest, TrainingError
from eventfm.engine.loss_scale import GROWTH_INTERVAL, LARGEST, LossScale
from eventfm.engine.step import seeded
from eventfm.engine.window import Window
from eventfm.protocols import Progress

CPU = torch.device("cpu")


def test_loss_scale_halves_doubles_and_stays_in_bounds():
    scale = LossScale(enabled=True)
    assert scale.update(finite=False)
    assert scale.value == 2.0**15
    for _ in range(GROWTH_INTERVAL - 1):
        assert not scale.update(finite=True)
    twin = LossScale(enabled=True)
    twin.load_state_dict(scale.state_dict())
    for each in (scale, twin):
        each.update(finite=True)
        assert each.value == 2.0**16
    for _ in range(16):
        assert scale.update(finite=False)
    assert scale.value == 1.0
    assert not scale.update(finite=False)
    twin.value = LARGEST
    for _ in range(GROWTH_INTERVAL):
        twin.update(finite=True)
    assert twin.value == LARGEST


def test_loss_scale_is_1_where_it_is_not_needed():
    scale = LossScale(enabled=False)
    assert not scale.update(finite=False)
    scale.load_state_dict({"value": 8.0, "good_steps": 3})
    assert scale.value == 1.0


def test_guard_counts_steps_in_a_row():
    counted = FiniteGuard(max_nonfinite=1)
    for finite in (False, True, False):
        counted.note(finite, 0)
    twin = FiniteGuard(max_nonfinite=1)
    twin.load_state_dict(counted.state_dict())
    with pytest.raises(TrainingError, match="2 steps in a row, up to step 9"):
        twin.note(False, 9)
    assert twin.skipped == 3


def test_stop_request_takes_signals_and_gives_the_handlers_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    for number in (signal.SIGTERM, signal.SIGUSR1):
        with StopRequest() as stop:
            assert not stop.requested
            os.kill(os.getpid(), number)
            assert stop.requested
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_ctrl_c_asks_first_and_stops_at_once_the_second_time(monkeypatch, capfd):
    clock = [100.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: clock[0])
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.by_user
        for clock[0] in (100.0, 100.5):  # a launcher hands on what the terminal has sent already
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        assert stop.by_user
        clock[0] = 102.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count("Ctrl-C once more stops at once") == 1


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_ctrl_c_is_left_to_whoever_handles_it(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_stop_request_outside_the_main_thread_does_nothing():
    seen = []

    def enter():
        with StopRequest() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [False]


def test_feed_reads_ahead_by_one_and_never_past_the_end():
    read = []

    class Watched(ToyBatches):
        def __call__(self, start):
            for number, batch in enumerate(super().__call__(start), start):
                read.append(number)
                yield batch

    feed = Feed(Watched(2), 3, 6, CPU)
    assert read == []
    firsts = []
    for _ in range(3):
        firsts.append(feed.take()["index"][0].item())
        feed.prefetch()
        feed.prefetch()
        assert len(read) == min(len(firsts) + 1, 3)
    assert firsts == [6, 8, 10]
    assert read == [3, 4, 5]


def test_nested_batches_move_whole():
    batch = {"a": torch.ones(2), "b": [torch.zeros(1), "name"], "c": Progress(torch.tensor(1), 2), "d": 3.5}
    moved = to_device(batch, torch.device("meta"))
    assert moved["a"].device.type == moved["b"][0].device.type == moved["c"].step.device.type == "meta"
    assert isinstance(moved["c"], Progress)
    assert (moved["b"][1], moved["c"].num_steps, moved["d"]) == ("name", 2, 3.5)


def test_seeds_depend_on_seed_step_and_rank_and_nothing_leaks():
    def draw(*key):
        with seeded(*key, CPU):
            return torch.rand(2).tolist()

    torch.manual_seed(1)
    before = torch.get_rng_state()
    draws = [draw(0, 0, 0), draw(1, 0, 0), draw(0, 1, 0), draw(0, 0, 1)]
    assert len({tuple(each) for each in draws}) == 4
    assert draw(0, 1, 0) == draws[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_window_means_over_the_steps_that_had_a_value_and_survives_a_checkpoint():
    window, twin = Window(CPU), Window(CPU)
    window.add({"loss": torch.tensor(1.0), "extra": torch.tensor(4.0)})
    window.add({})
    window.add({"loss": torch.tensor(2.0)})
    twin.load_state_dict(window.state_dict())
    for each in (window, twin):
        each.add({"loss": torch.tensor(6.0)})
        assert each.flush() == {"loss": 3.0, "extra": 4.0}
        assert each.flush() == {}
