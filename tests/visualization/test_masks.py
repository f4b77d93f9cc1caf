from __future__ import annotations

import numpy as np
import pytest

from eventfm.visualization.masks import (
    CAMVID_COLOURS,
    DDD17_COLOURS,
    DSEC_COLOURS,
    UNLABELLED_COLOUR,
    class_colours,
    class_picture,
    legend,
)
from eventfm.visualization.panel import panel


def test_published_classes_have_their_published_colours() -> None:
    assert [len(table) for table in (DSEC_COLOURS, DDD17_COLOURS, CAMVID_COLOURS)] == [11, 6, 11]
    for table in (DSEC_COLOURS, DDD17_COLOURS, CAMVID_COLOURS):
        assert UNLABELLED_COLOUR not in table.values()
        assert len(set(table.values())) == len(table)
        np.testing.assert_array_equal(class_colours(tuple(table)), list(table.values()))
    # What data sets share has one colour, that of Cityscapes.
    assert DSEC_COLOURS["car"] == DDD17_COLOURS["vehicle"] == (0, 0, 142)
    np.testing.assert_array_equal(class_colours(["Traffic-Sign", "car"]), [(220, 220, 0), (0, 0, 142)])
    np.testing.assert_array_equal(class_colours(["SignSymbol", "Sky"]), [(192, 128, 128), (128, 128, 128)])
    np.testing.assert_array_equal(class_colours(["vehicle", "background"]), [(0, 0, 142), (70, 70, 70)])


def test_other_classes_have_those_of_pascal_voc() -> None:
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    np.testing.assert_array_equal(class_colours(["circle", "car", "x", "y", "z", "v", "w"]), voc)
    everything = class_colours()
    assert everything.shape == (255, 3)
    assert len(np.unique(everything, axis=0)) == 255
    assert everything[[15, 19, 20]].tolist() == [[192, 128, 128], [128, 192, 0], [0, 64, 128]], "person, train, monitor"
    assert not (everything == UNLABELLED_COLOUR).all(1).any()


def test_every_pixel_has_the_colour_of_its_class() -> None:
    mask = np.array([[0, 5, 10], [255, 8, 8]], np.uint8)
    out = class_picture(mask, tuple(DSEC_COLOURS))
    assert (out.shape, out.dtype) == ((2, 3, 3), np.uint8)
    colours = list(DSEC_COLOURS.values())
    assert out[0].tolist() == [list(colours[i]) for i in (0, 5, 10)]
    assert out[1].tolist() == [[255, 255, 255], list(colours[8]), list(colours[8])]
    np.testing.assert_array_equal(class_picture(mask.astype(np.int64))[0, 1], (128, 0, 128))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.array([[0, 3]]), "classes 0 to 2, or 255, got 3"),
        (np.array([[-1, 0]]), "got -1"),
        (np.array([[300, 0]]), "got 300"),
        (np.array([[0.0, 1.0]]), "float64"),
        (np.zeros((1, 2, 2), int), r"shape \(1, 2, 2\)"),
    ],
)
def test_what_is_no_class_is_refused(mask: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        class_picture(mask, ("a", "b", "c"))


@pytest.mark.parametrize("rows", [1, 8])
def test_the_legend_shows_every_colour_once(rows: int) -> None:
    names = tuple(DSEC_COLOURS)
    out = legend(names, rows)
    assert out.shape[0] == 22 * rows
    flat = [tuple(pixel) for pixel in out.reshape(-1, 3).tolist()]
    for colour in DSEC_COLOURS.values():
        assert flat.count(colour) >= 14 * 14, "a swatch, less its outline"
    middles = [(i % rows * 22 + 11, i // rows) for i in range(11)]
    order = [np.argwhere((out == colour).all(-1))[:, 0].mean() for colour in DSEC_COLOURS.values() if sum(colour)]
    np.testing.assert_allclose(order, [y for y, _ in middles][1:], atol=2)
    assert legend(("a",), rows).shape[0] == 22 * rows, "as high with few classes"
    with pytest.raises(ValueError, match="a row or more"):
        legend(names, 0)


def test_the_legend_stands_in_panels_as_it_is() -> None:
    key = legend(tuple(DDD17_COLOURS))
    out = panel([[("classes", key)]])
    assert out.shape[1] == key.shape[1] + 16
