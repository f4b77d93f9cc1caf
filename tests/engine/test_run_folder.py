import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfm.engine import RunFolder, RunFolderError
from eventfm.engine.run_folder import config_hash, trim_metrics

CONFIG = {"data": {"path": "a", "num_workers": 2, "bins": (1, 2)}, "train": {"lr": 1e-05, "clip_norm": None}}
FREE = {"num_workers"}


def changed(group: str, key: str, value: object) -> dict:
    return {**CONFIG, group: {**CONFIG[group], key: value}}


def test_a_new_folder_is_claimed_and_claimed_again(tmp_path):
    folder = RunFolder(tmp_path / "deep" / "run")
    for _ in range(2):
        folder.claim(CONFIG, FREE)
    assert [path.name for path in folder.path.iterdir()] == ["config.yaml"]
    folder.claim(changed("data", "num_workers", 8), FREE)
    assert "num_workers: 8" in folder.config.read_text()
    assert folder.config.read_text().startswith("data:\n  path: a")


def test_another_config_is_refused_by_its_keys(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(CONFIG, FREE)
    other = changed("train", "lr", 0.1)
    del other["train"]["clip_norm"]
    other["seed"] = 3
    with pytest.raises(RunFolderError) as error:
        folder.claim(other, FREE)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{tmp_path} holds a run with another config:"
    assert lines[1:4] == [
        "  seed: absent there, 3 now",
        "  train.clip_norm: None there, absent now",
        "  train.lr: 1e-05 there, 0.1 now",
    ]
    assert "choose another out=" in lines[4]
    assert "lr: 1.0e-05" in folder.config.read_text()


def test_a_dotted_key_may_differ_in_one_place_only(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(CONFIG)
    folder.claim(changed("data", "path", "b"), {"data.path"})
    with pytest.raises(RunFolderError, match=r"data\.bins"):
        folder.claim(changed("data", "bins", (1, 3)), {"data.path", "path"})


def test_a_foreign_folder_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match=r"thesis\.tex but no config\.yaml"):
        RunFolder(tmp_path).claim(CONFIG)
    with pytest.raises(RunFolderError, match="it is a file"):
        RunFolder(tmp_path / "thesis.tex").claim(CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_claim_that_was_cut_short_is_not_foreign(tmp_path):
    (tmp_path / "config.yaml.tmp").write_text("data: {pa")
    RunFolder(tmp_path).claim(CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n"])
def test_a_config_that_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        RunFolder(tmp_path).claim(CONFIG)


def test_the_hash_says_what_claim_says():
    assert config_hash(CONFIG, FREE) == config_hash(changed("data", "num_workers", 9), FREE)
    assert config_hash(CONFIG, FREE) == config_hash({**CONFIG, "data": {**CONFIG["data"], "bins": [1, 2]}}, FREE)
    assert config_hash(CONFIG, FREE) != config_hash(changed("train", "lr", 1e-6), FREE)
    assert config_hash(CONFIG, ()) != config_hash(changed("data", "num_workers", 9), ())


@given(st.integers(0, 12), st.integers(0, 400))
def test_trimming_keeps_whole_lines_up_to_the_step(tmp_path_factory, last_step, cut):
    path = tmp_path_factory.mktemp("trim") / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 7}) + "\n" for step in range(1, 11)]
    text = "".join(lines)[:cut]
    path.write_text(text)
    trim_metrics(path, last_step)
    whole = [line for line in lines if text.startswith("".join(lines[: lines.index(line) + 1]).rstrip("\n"))]
    assert path.read_text() == "".join(whole[:last_step])
    trim_metrics(path.with_name("absent"), 3)
