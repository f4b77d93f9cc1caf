"""Drawn answers: what of flow and depth lies near events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eventfm.deployment.predicted_pictures import drawing
from eventfm.deployment.predicting import Answer
from eventfm.events import Events, Sensor
from eventfm.visualization.dense import UNKNOWN_COLOUR

HEIGHT, WIDTH = 24, 40


def answer(task: str) -> Answer:
    values = np.full((2, HEIGHT, WIDTH) if task == "flow" else (HEIGHT, WIDTH), 2.0, np.float32)
    if task == "segmentation":
        values = values.astype(np.uint8)
    x, y = np.array([0, 20]), np.array([0, 10])
    events = Events(x, y, np.array([5, 6]), np.array([0, 1]), Sensor(WIDTH, HEIGHT))
    return Answer(events, values)


@pytest.mark.parametrize("task", ["flow", "depth"])
def test_what_lies_within_two_pixels_of_an_event_is_shown_again(task: str) -> None:
    said = answer(task)
    cells: Any = drawing(task, (), 0, [said])._answers(said)
    (_, whole), (label, near) = ((name, picture[1:-1, 1:-1]) for name, picture in cells)
    assert label == "where there are events"
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:3, :3] = expected[8:13, 18:23] = True
    np.testing.assert_array_equal((near != UNKNOWN_COLOUR).any(axis=2), expected)
    np.testing.assert_array_equal(near[expected], whole[expected])
    assert (whole != UNKNOWN_COLOUR).any(axis=2).all()


def test_classes_are_shown_once() -> None:
    said = answer("segmentation")
    assert len(drawing("segmentation", ("a", "b", "c"), 0, [said])._answers(said)) == 1
