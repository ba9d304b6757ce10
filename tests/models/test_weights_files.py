"""What a weights file is said to be, and what becomes of pickles. In use, this runs in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.flashvsr_tiny import dit, projection, prompt, tiny_decoder, wan_decoder, wan_with_encoder
from upres.errors import FileMissing, WeightsInvalid
from upres.models.files import convert, identify


def pickled(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_every_part_is_told_from_its_keys_whatever_it_is_kept_in(tmp_path: Path) -> None:
    parts = {"dit": dit(), "lq_proj": projection(), "tcdecoder": tiny_decoder(), "wan_vae": wan_decoder()}
    for part, net in parts.items():
        save_file(net.state_dict(), tmp_path / part)
        assert identify(tmp_path / part) == {"parts": [part], "precision": "F32", "ours": True}
        assert identify(pickled(tmp_path / "pickle", net.state_dict())) == {
            "parts": [part], "precision": "F32", "ours": False}  # fmt: skip
    assert identify(pickled(tmp_path / "alone", prompt()))["parts"] == ["prompt"]
    assert identify(pickled(tmp_path / "alone", torch.zeros(512, 4096)))["parts"] == ["prompt"]
    assert identify(pickled(tmp_path / "alone", torch.zeros(58, 5120)))["parts"] == ["text"]


def test_of_wans_autoencoder_only_the_decoder_is_kept(tmp_path: Path) -> None:
    convert(pickled(tmp_path / "vae.pth", {"model_state": wan_with_encoder()}), tmp_path / "out", None)
    assert load_file(tmp_path / "out").keys() == wan_decoder().state_dict().keys()


def test_a_pickle_of_before_zip_archives_is_read_too(tmp_path: Path) -> None:
    torch.save(tiny_decoder().state_dict(), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    convert(tmp_path / "old.ckpt", tmp_path / "out", None)
    assert torch.equal(load_file(tmp_path / "out")["decoder.26.bias"], tiny_decoder().state_dict()["decoder.26.bias"])


def test_pickles_that_hold_more_than_tensors_or_would_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "it ran",)

    weights = dict(tiny_decoder().state_dict())
    lacking = {name: value for name, value in weights.items() if name != "decoder.26.bias"}
    for content, said in (
        ({"model": Evil()}, "no pickle of a tensor"),
        ({**weights, "epoch": 3}, "a pickle of dict, not of tensors alone"),
        (lacking, "1 missing keys, first decoder.26.bias"),
        (torch.zeros(2, 3, 4), r"the prompt has the shape \(2, 3, 4\)"),
    ):  # fmt: skip
        with pytest.raises(WeightsInvalid, match=said):
            identify(pickled(tmp_path / "v1.1.ckpt", content))
    assert not (tmp_path / "it ran").exists()


def test_what_is_no_file_of_ours_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no such weights file"):
        identify(tmp_path / "nothing")
    with pytest.raises(WeightsInvalid, match="holds nothing of FlashVSR"):
        convert(pickled(tmp_path / "strange", {"a": torch.zeros(1)}), tmp_path / "out", None)
    with pytest.raises(WeightsInvalid, match="holds tcdecoder of FlashVSR"):
        convert(pickled(tmp_path / "other", tiny_decoder().state_dict()), tmp_path / "out", "dit")
    assert not (tmp_path / "out").exists()
