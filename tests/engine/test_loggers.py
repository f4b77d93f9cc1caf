import io
import json
import sys
import types

import pytest
import torch
from rich.console import Console

from eventfm.engine import console
from eventfm.engine.console import ProgressLine, memory_gib, summary
from eventfm.engine.loggers import BestEffort, JsonLines, open_loggers
from eventfm.engine.run_folder import RunFolder


def test_json_lines_are_whole_valid_and_continued(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path, 0)
    for step in (1, 2, 3):
        first.write(step, {"loss": float("nan") if step == 2 else step / 3})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    first.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    again = JsonLines(path, 2)
    again.write(3, {"loss": 0.25})
    again.close()
    records = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert records == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": None}, {"step": 3, "loss": 0.25}]


def test_tensorboard_files_hold_the_scalars(tmp_path):
    loggers = open_loggers(RunFolder(tmp_path), 0, True, (), {})
    for logger in loggers:
        logger.write(7, {"loss": 0.5})
        logger.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 0.5)]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_get_the_metrics_and_may_be_absent(tmp_path, monkeypatch, caplog, name):
    calls = []
    fake = types.ModuleType(name)
    fake.init = lambda **kwargs: calls.append(("init", kwargs["name"], kwargs["config"]))
    fake.log = lambda metrics, step: calls.append((step, metrics))
    fake.finish = lambda: calls.append("finish")
    monkeypatch.setitem(sys.modules, name, fake)
    tracker = open_loggers(RunFolder(tmp_path), 0, False, (name,), {"lr": 1})[1]
    tracker.write(3, {"loss": 0.5})
    tracker.close()
    assert calls[0] == ("init", tmp_path.name, {"lr": 1})
    assert calls[1:] == [(3, {"loss": 0.5}), "finish"]
    monkeypatch.setitem(sys.modules, name, None)
    absent = open_loggers(RunFolder(tmp_path), 0, False, (name,), {})[1]
    absent.write(1, {"loss": 1.0})
    absent.close()
    assert f"pip install 'eventfm[{name}]'" in caplog.text


def test_a_tracker_that_breaks_is_reported_once_and_left_alone(caplog):
    class Breaking:
        calls = 0

        def write(self, step, metrics):
            self.calls += 1
            raise RuntimeError("no network")

        def close(self):
            raise AssertionError

    inner = Breaking()
    logger = BestEffort("tracker", lambda: inner)
    for step in range(3):
        logger.write(step, {})
    logger.close()
    assert inner.calls == 1
    assert caplog.text.count("no network") == 1


def test_plain_lines_are_spaced_and_the_last_is_always_there(monkeypatch):
    now = iter([0.0, 1.0, 2.0, 12.0, 13.0, 14.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    line = ProgressLine(100, 0, Console(file=out))
    for step in (10, 20, 30, 40, 100):
        line.write(step, {"loss": 1 / step, "lr": 1e-3, "samples_per_s": 1234.5, "memory_gib": 1.25})
    line.close()
    assert out.getvalue().splitlines() == [
        "step  10/100  loss 0.1  lr 1.00e-03  1,234 samples/s  1.2 GiB  eta 0:00:09",
        "step  30/100  loss 0.03333  lr 1.00e-03  1,234 samples/s  1.2 GiB  eta 0:00:28",
        "step 100/100  loss 0.01  lr 1.00e-03  1,234 samples/s  1.2 GiB  eta 0:00:00",
    ]


def test_a_terminal_gets_one_live_line():
    out = io.StringIO()
    line = ProgressLine(10, 0, Console(file=out, force_terminal=True, width=120))
    for step in range(1, 11):
        line.write(step, {"loss": float(step)})
    line.close()
    assert "loss 10" in out.getvalue()
    assert "100%" in out.getvalue()


def test_the_summary_names_what_validation_found():
    text = summary(5, 10, {"lr": 0.1, "val_accuracy": 0.75, "error": 3.0}, 3725.0)
    assert text == "step  5/10  lr 1.00e-01  eta 1:02:05  val_accuracy 0.75"


def test_memory_of_this_process_is_plausible():
    assert 0.05 < memory_gib(torch.device("cpu")) < 500
