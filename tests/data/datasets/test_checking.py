"""Numbers of labelled maps beside the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures import mvsec

from eventfm.data.datasets.checking import Report, check
from eventfm.data.datasets.contract import Sample
from eventfm.data.datasets.mvsec import FLOW_DT1
from eventfm.data.datasets.opening import locate


def report(*samples: Sample) -> Report:
    division = FLOW_DT1.card.division("eventpretrain")
    return Report(FLOW_DT1.card, division, Path("/data"), samples, (), 0, 0, "0" * 64)


def sample(split: str, sequence: str, count: int | None) -> Sample:
    return Sample(f"{split}/{sequence}", (), None, split, None, None if count is None else range(count))


WHOLE = (
    sample("train", "outdoor_day1", 2754),
    sample("train", "outdoor_day2", 2626),
    sample("train", "indoor_flying1", 18),
    *(sample("test", f"indoor_flying{number}", count) for number, count in ((1, 1866), (2, 1884), (3, 1884))),
)


def test_maps_that_are_all_there_are_complete() -> None:
    found = report(*WHOLE)
    assert found.maps == {"train": 5398, "test": 5634}
    assert found.complete
    assert "    5,398 labelled maps, 5,398 published" in found.lines()
    assert found.lines()[-1] == "complete"


def test_a_map_too_few_or_too_many_is_not_complete() -> None:
    for count in (1883, 1885):
        found = report(*WHOLE[:-1], sample("test", "indoor_flying3", count))
        assert not found.complete
        assert f"    {5634 - 1884 + count:,} labelled maps, 5,634 published" in found.lines()


def test_splits_whose_samples_do_not_tell_are_not_compared() -> None:
    found = report(*WHOLE[:-1], sample("test", "indoor_flying3", None))
    assert found.maps == {"train": 5398}
    assert found.complete
    assert sum("labelled maps" in line for line in found.lines()) == 1


@pytest.mark.parametrize("division", ["scaleevent", "eventpretrain"])
def test_maps_of_a_folder_are_told_from_names_alone(tmp_path: Path, division: str) -> None:
    mvsec.write_flow(tmp_path, 1)
    located = locate("mvsec-flow-dt1", tmp_path, division)
    found = check(located, looks=0)
    assert found.maps == ({} if division == "scaleevent" else {"train": 2626, "test": 1884})
    assert found.num_looked_at == 0
