"""A device by its name, or in words why there is none."""

import pytest
import torch

from eventfm.engine.devices import find_device

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def test_a_device_is_found_by_its_name():
    assert find_device("cpu")[0] == torch.device("cpu")
    assert find_device(torch.device("cpu"))[0] == torch.device("cpu")


@NO_CUDA
def test_auto_is_the_cpu_where_there_is_no_other():
    assert find_device("auto") == (torch.device("cpu"), "no CUDA device was found")


@NO_CUDA
@pytest.mark.parametrize("name", ["cuda", "cuda:1", torch.device("cuda")])
def test_cuda_is_refused_where_there_is_none(name):
    with pytest.raises(ValueError, match="no CUDA device; use device=cpu or auto"):
        find_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="expected device to be auto, cpu, cuda"):
        find_device(name)
