"""The page of the documentation is made from the cards, and says what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventfm.data.datasets.page import card_lines, cards, page

PAGE = Path(__file__).parents[3] / "docs/datasets.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(cards()), (
        "write it anew: python -c 'from eventfm.data.datasets.page import *; print(page(cards()), end=\"\")' "
        "> docs/datasets.md"
    )


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)
def test_a_card_is_written_out(card) -> None:
    for text, classes in (("\n".join(card_lines(card)), card.classes), (PAGE.read_text(encoding="utf-8"), ())):
        for said in (card.title, card.licence, card.home_page, card.citation, *card.traps, *classes):
            assert said in text
        for division in card.divisions:
            assert division.about in text
            assert division.sha256 in text
