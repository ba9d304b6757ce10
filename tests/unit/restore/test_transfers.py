import numpy as np
import pytest
import torch

from upres.restore.tensors import as_pixels, as_samples, to_model, to_pixels
from upres.restore.transfers import Transfers


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_samples_go_up_and_come_down_as_they_were(dtype: type) -> None:
    transfers = Transfers(torch.device("cpu"))
    frames = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (2, 5, 7, 3), dtype=dtype, endpoint=True)
    frames.flags.writeable = False  # as a pipe's are
    pixels = as_pixels(transfers.up(frames).on_device())
    assert torch.equal(pixels, to_pixels(frames, torch.device("cpu")))
    leaving = transfers.down(as_samples(to_model(pixels), deep=dtype is np.uint16))
    assert len(leaving) == 2
    assert leaving.numpy().dtype == dtype and (leaving.numpy() == frames).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_transfers_are_ordered_with_what_is_computed_between_them() -> None:
    transfers = Transfers(torch.device("cuda"))
    blocks = [np.full((4, 256, 256, 3), number, np.uint8) for number in range(50)]
    leaving = [transfers.down(transfers.up(block).on_device() + 1) for block in blocks]
    assert [int(part.numpy().max()) for part in leaving] == [int(part.numpy().min()) for part in leaving]
    assert [int(part.numpy().min()) for part in leaving] == list(range(1, 51))
