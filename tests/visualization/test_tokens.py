from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from eventfm.visualization.dense import signed_map
from eventfm.visualization.events import ON_COLOUR
from eventfm.visualization.features import pca_maps
from eventfm.visualization.token_panel import TokenRow, token_panel
from eventfm.visualization.tokens import (
    MAX_CLUSTERS,
    cluster_pictures,
    fitted,
    marked,
    pca_pictures,
    similarity_maps,
    spread_places,
)


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_like_tokens_have_like_colours_in_maps_of_any_grid() -> None:
    coarse = numbers(0, 4, 5, 8)
    fine = coarse.repeat(3, axis=0).repeat(2, axis=1)
    first, second = pca_pictures([coarse, fine])
    assert (first.shape, first.dtype) == ((4, 5, 3), np.uint8)
    np.testing.assert_array_equal(second, first.repeat(3, axis=0).repeat(2, axis=1))
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 10
    other = numbers(1, 4, 5, 8) + 3
    both = pca_maps(np.stack([coarse, other]).reshape(2, 20, 8), (4, 5))
    np.testing.assert_array_equal(np.stack(pca_pictures([coarse, other])), both)
    assert not np.array_equal(pca_pictures([other])[0], both[1])


def test_similarity_is_the_cosine_with_the_token_at_the_place() -> None:
    tokens = numbers(0, 3, 4, 6)
    tokens[2, 3] = 0
    places = [(0.0, 0.0), (0.5, 0.74), (1.0, 1.0)]
    found = similarity_maps(tokens, places)
    assert found.shape == (3, 3, 4)
    for number, anchor in enumerate([tokens[0, 0], tokens[1, 2]]):
        for row in range(3):
            for col in range(4):
                lengths = np.linalg.norm(tokens[row, col]) * np.linalg.norm(anchor)
                want = tokens[row, col] @ anchor / lengths if lengths else 0
                assert found[number, row, col] == pytest.approx(want, abs=1e-12)
    assert (found[2] == 0).all()
    np.testing.assert_allclose(similarity_maps(-2.5 * tokens, places), found, atol=1e-12)
    np.testing.assert_allclose(similarity_maps(np.ones((3, 4, 6)), places), 1)
    assert similarity_maps(tokens, []).shape == (0, 3, 4)


def test_planted_clusters_are_found_and_keep_their_colours() -> None:
    directions = np.eye(6)[:3] * 4
    kinds = [np.array([[0, 0, 1], [2, 0, 0]]), np.array([[1, 2], [0, 1], [0, 0], [0, 1]])]
    maps = []
    for kind in kinds:
        lengths = np.exp(2 * numbers(7, *kind.shape, 1))  # it is their directions that count
        maps.append(lengths * (directions[kind] + 0.05 * numbers(1, *kind.shape, 6)))
    first, second = cluster_pictures(maps, 3)
    colours = {kind: tuple(first[kinds[0] == kind][0]) for kind in range(3)}
    assert len(set(colours.values())) == 3
    for picture, kind in ((first, kinds[0]), (second, kinds[1])):
        assert picture.shape == (*kind.shape, 3)
        for number, colour in colours.items():
            assert (picture[kind == number] == colour).all()
    # The largest has the first colour, whatever the order of the tokens.
    turned = cluster_pictures([m[::-1, ::-1] for m in maps], 3)
    np.testing.assert_array_equal(turned[1][::-1, ::-1], second)
    assert colours[0] == (31, 119, 180)


def test_collapsed_tokens_are_one_cluster() -> None:
    (picture,) = cluster_pictures([np.ones((3, 4, 5))], 4)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1
    (picture,) = cluster_pictures([numbers(0, 1, 2, 5)], 4)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 2


def test_places_are_where_there_is_much_and_far_apart() -> None:
    weight = np.zeros((4, 8))
    weight[1, 1], weight[1, 2], weight[3, 7], weight[0, 7], weight[2, 0] = 9, 8, 7, 7, 1
    assert spread_places(weight, 3) == [(1.5 / 4, 1.5 / 8), (3.5 / 4, 7.5 / 8), (0.5 / 4, 7.5 / 8)]
    assert spread_places(weight, 1) == spread_places(weight, 3)[:1]
    assert spread_places(weight, 0) == []
    oblong = np.zeros((4, 8))
    oblong[1, 1], oblong[3, 1], oblong[1, 4] = 9, 5, 5
    assert spread_places(oblong, 2)[1] == (1.5 / 4, 4.5 / 8), "farthest in pixels"
    empty = spread_places(np.zeros((4, 8)), 2)
    assert empty == [(0.5 / 4, 0.5 / 8), (3.5 / 4, 7.5 / 8)]


def test_marks_and_sizes() -> None:
    ground = np.full((80, 120, 3), 90, np.uint8)
    drawn = marked(ground, (0.5, 0.25))
    changed = np.argwhere((drawn != ground).any(axis=2))
    np.testing.assert_array_equal(changed.mean(axis=0), [40, 30])
    assert np.array_equal(drawn[40, 30], ground[40, 30]), "what is marked is seen"
    assert {tuple(c) for c in drawn.reshape(-1, 3)} == {(90,) * 3, (0,) * 3, (255,) * 3}
    assert marked(ground, (1.0, 0.0)).shape == ground.shape
    assert (ground == 90).all()

    small = numbers(0, 4, 6, 3).astype(np.uint8)
    np.testing.assert_array_equal(fitted(small, (12, 18)), small.repeat(3, axis=0).repeat(3, axis=1))
    np.testing.assert_allclose(fitted(small, (2, 3)), small.reshape(2, 2, 3, 2, 3).mean(axis=(1, 3)), atol=1)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"tokens of one length, got shapes \[\(2, 2, 3\), \(2, 2, 4\)\]"):
        pca_pictures([numbers(0, 2, 2, 3), numbers(0, 2, 2, 4)])
    with pytest.raises(ValueError, match="tokens of one length, got shapes"):
        cluster_pictures([], 3)
    with pytest.raises(ValueError, match=f"1 to {MAX_CLUSTERS} clusters, got 11"):
        cluster_pictures([numbers(0, 2, 2, 3)], 11)
    with pytest.raises(ValueError, match="0 to 1, got"):
        similarity_maps(numbers(0, 2, 2, 3), [(0.5, 1.5)])
    with pytest.raises(ValueError, match=r"\(rows, cols, D\), got shape \(4, 3\)"):
        similarity_maps(numbers(0, 4, 3), [])
    with pytest.raises(ValueError, match="at least one row"):
        token_panel([], 3)


def found_in(panel: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Return where `picture` lies in `panel`."""
    height, width = picture.shape[:2]
    corners = np.argwhere((panel == picture[0, 0]).all(axis=2))
    return [(y, x) for y, x in corners if np.array_equal(panel[y : y + height, x : x + width], picture)]


def test_a_panel_has_events_frame_and_maps_side_by_side() -> None:
    events, frame = (numbers(s, 24, 36, 3).astype(np.uint8) for s in (0, 1))
    own, taught = numbers(2, 4, 6, 8), numbers(3, 4, 6, 8) + 2
    places = [(0.3, 0.6), (0.9, 0.1)]
    out = token_panel([TokenRow("now", events, own, places, frame, taught)], 3)
    size = (240, 360)
    expected = [events, frame, *pca_pictures([own, taught])]
    marks = []
    for number, place in enumerate(places):
        for tokens in (own, taught):
            picture = fitted(signed_map(similarity_maps(tokens, places)[number], 1.0), size)
            assert (picture == ON_COLOUR).all(axis=2).any(), "the anchor is like itself"
            marks.append(marked(picture, place))
    expected = [fitted(picture, size) for picture in expected] + marks
    expected += [fitted(picture, size) for picture in cluster_pictures([own, taught], 3)]
    corners = [found_in(out, picture) for picture in expected]
    assert [len(places) for places in corners] == [1] * len(expected)
    assert len({y for ((y, _),) in corners}) == 1
    assert [x for ((_, x),) in corners] == sorted(x for ((_, x),) in corners)
    assert out.shape[1] == len(expected) * (360 + 8) + 8


def test_bases_are_shared_only_where_tokens_have_as_many_numbers() -> None:
    events = np.zeros((24, 24, 3), np.uint8)
    own, taught = numbers(2, 4, 4, 8), numbers(3, 4, 4, 5)
    rows = [TokenRow("a", events, own, (), events, taught), TokenRow("b", events, -own, (), events, 2 * taught)]
    out = token_panel(rows, 3)
    for maps in ([own, -own], [taught, 2 * taught]):
        for picture in pca_pictures(maps) + cluster_pictures(maps, 3):
            assert found_in(out, fitted(picture, (240, 240)))
    alone = token_panel([TokenRow("a", events, own)], 3)
    assert alone.shape[1] == 3 * (240 + 8) + 8
    assert found_in(alone, fitted(pca_pictures([own])[0], (240, 240)))


def test_maps_are_light_until_they_are_drawn() -> None:
    code = (
        "import sys\n"
        "from eventfm.visualization import collapse_plot, token_panel, tokens\n"
        "print(sorted({'matplotlib', 'sklearn', 'torch'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
