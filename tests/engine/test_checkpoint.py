import errno
import json
import os
import resource
import shutil

import pytest
import torch
from engine_toy import ToyObjective, final_tensors, run

from eventfm.engine import CheckpointError, CheckpointWriteError, DiskFullError, RunFolderError, checkpoint
from eventfm.engine.checkpoint import Checkpoints


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((3, 2), value), "a.count": torch.tensor(7)}


def saved(folder, *steps):
    checkpoints = Checkpoints(folder)
    checkpoints.clean()
    for step in steps:
        checkpoints.save(step, tensors(float(step)), {"note": step})
    return checkpoints


def test_round_trip_in_place(tmp_path):
    checkpoints = saved(tmp_path, 5, 30)
    assert checkpoints.steps() == [5, 30]
    out = tensors(0.0)
    out["a.count"].zero_()
    checkpoints.load(30, out)
    assert out["a.weight"].unique().tolist() == [30.0]
    assert out["a.count"].item() == 7
    state = checkpoints.state(5)
    assert (state["step"], state["note"], state["world_size"]) == (5, 5, 1)
    assert state["torch"] == torch.__version__


def test_prune_keeps_the_last_and_the_best(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, 4, 5)
    checkpoints.prune(2, best=2)
    assert checkpoints.steps() == [2, 4, 5]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "step_00000002",
        "step_00000004",
        "step_00000005",
    ]
    checkpoints.load(2, tensors())


def test_leftovers_are_no_checkpoints_and_go(tmp_path):
    checkpoints = saved(tmp_path, 1)
    shutil.copytree(tmp_path / "step_00000001", tmp_path / ".tmp_step_00000002")
    assert checkpoints.steps() == [1]
    checkpoints.clean()
    assert not (tmp_path / ".tmp_step_00000002").exists()


def test_foreign_metadata_is_never_opened(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path / "mine", 1)
    saved(tmp_path / "other", 2)
    shutil.copytree(tmp_path / "other/step_00000002", tmp_path / "mine/step_00000002")
    metadata = tmp_path / "mine/step_00000001/.metadata"
    metadata.write_bytes(metadata.read_bytes() + b" ")
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("opened"))
    for step in (1, 2):
        with pytest.raises(CheckpointError, match="not written by this run"):
            checkpoints.load(step, tensors())


def test_nothing_but_tensors_is_stored_in_the_tensor_files(tmp_path):
    """What is no tensor would be a pickle outside of the hashed metadata."""
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    run(tmp_path / "run", num_steps=3)
    metadata = FileSystemReader(tmp_path / "run/checkpoints/step_00000003").read_metadata()
    assert {type(entry) for entry in metadata.state_dict_metadata.values()} == {TensorStorageMetadata}
    assert "optimizer.state.head.weight.exp_avg" in metadata.state_dict_metadata


def test_another_model_is_a_clear_error(tmp_path):
    checkpoints = saved(tmp_path, 1)
    with pytest.raises(CheckpointError, match="cannot be loaded into this model"):
        checkpoints.load(1, {"a.weight": torch.zeros(4, 2)})
    with pytest.raises(CheckpointError, match="cannot be loaded into this model"):
        checkpoints.load(1, {"b.weight": torch.zeros(3, 2)})


def test_a_damaged_file_is_a_clear_error(tmp_path):
    checkpoints = saved(tmp_path, 1)
    data = tmp_path / "step_00000001/__0_0.distcp"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        checkpoints.load(1, tensors())
    (tmp_path / "step_00000001/state.json").write_text("{")
    with pytest.raises(CheckpointError, match="remove that checkpoint"):
        checkpoints.state(1)


def test_folders_with_other_names_are_no_checkpoints(tmp_path):
    checkpoints = saved(tmp_path, 1)
    shutil.copytree(tmp_path / "step_00000001", tmp_path / "step_00000001_copy")
    assert checkpoints.steps() == [1]


def test_a_checkpoint_of_another_run_is_refused_with_its_keys(tmp_path):
    run(tmp_path / "run", num_steps=6)
    path = tmp_path / "run/checkpoints/step_00000006/state.json"
    state = json.loads(path.read_text())
    state["config"]["batch_size"], state["config_hash"] = 16, "0" * 64
    path.write_text(json.dumps(state))
    with pytest.raises(RunFolderError, match=r"step 6 .*\n  batch_size: 16 there, 8 now"):
        run(tmp_path / "run", num_steps=6)


def assert_stops_cleanly(out, step):
    """Check that the run's earlier checkpoints are whole and go on, and that nothing else is left."""
    assert [path.name for path in (out / "checkpoints").iterdir() if path.is_dir()] == [f"step_{step:08d}"]
    run(out)
    assert torch.isfinite(final_tensors(out)["model.head.weight"]).all()


def test_too_little_space_is_seen_before_writing(tmp_path, monkeypatch):
    free = iter([2**40, 1000, 1000])
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "free_bytes", lambda path: next(free))
        with pytest.raises(DiskFullError, match=r"step 8: it needs about 1\.\d MiB and 0\.0 MiB are free") as error:
            run(tmp_path / "run")
    assert error.value.errno == errno.ENOSPC
    assert_stops_cleanly(tmp_path / "run", 4)


def test_a_disk_that_fills_while_writing(tmp_path, monkeypatch):
    plain = checkpoint.FileSystemWriter.write_data
    count = iter(range(10))

    def write_data(self, plan, planner):
        if next(count) == 1:
            (self.path / "__0_0.distcp").write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(self, plan, planner)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.FileSystemWriter, "write_data", write_data)
        with pytest.raises(DiskFullError, match=r"Make room first.* start the same command again"):
            run(tmp_path / "run")
    assert_stops_cleanly(tmp_path / "run", 4)


def test_a_write_that_the_system_refuses(tmp_path):
    """The system itself stops the write in the middle of a tensor file (here with a limit on file sizes)."""
    checkpoints = saved(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointWriteError, match="Earlier checkpoints are whole"):
            checkpoints.save(2, {"big": torch.zeros(200_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["step_00000001"]
    checkpoints.load(1, tensors())


def test_state_that_is_no_tensor_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ToyObjective, "get_extra_state", lambda self: {"a": 1}, raising=False)
    monkeypatch.setattr(ToyObjective, "set_extra_state", lambda self, state: None, raising=False)
    with pytest.raises(ValueError, match="tensors only"):
        run(tmp_path / "run", num_steps=3)
