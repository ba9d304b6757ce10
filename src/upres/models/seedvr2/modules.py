"""SeedVR2's networks for people who build with them: made, saved and loaded as diffusers' models are.

A folder of `save_pretrained` holds `config.json` and `diffusion_pytorch_model.safetensors`, as diffusers names them.
Knows nothing of clips, shots or devices' sizes: see restorer.py for that.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from upres.errors import FileMissing, WeightsInvalid
from upres.models.seedvr2.checkpoint import load_dit, load_vae
from upres.models.seedvr2.config import DitConfig, VaeConfig
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.text import load_text
from upres.models.seedvr2.vae import VideoVae
from upres.models.weights.linear import Linear

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
CPU = torch.device("cpu")


class SeedVr2Transformer(Dit):
    """`forward(latent, text, timestep)`: see Dit. Sizes are in `config`."""

    @classmethod
    def from_single_file(
        cls, path: str | Path, *, device: torch.device | str = CPU, dtype: torch.dtype = torch.float32
    ) -> Self:
        """Of a published file, safetensors or GGUF, of any precision, or one of that make. Computes in the type of its
        input, which shall be `dtype`; weights that are stored smaller stay so. Raises WeightsInvalid, FileMissing.
        """
        return cast(Self, load_dit(Path(path), torch.device(device), dtype, make=cls))

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | str = CPU, dtype: torch.dtype = torch.float32
    ) -> Self:
        """Raises WeightsInvalid, FileMissing."""
        config = DitConfig(**_facts(Path(folder), cls.__name__, DitConfig))
        dit = load_dit(Path(folder) / WEIGHTS, torch.device(device), dtype, make=lambda _: cls(config))
        return cast(Self, dit)

    def save_pretrained(self, folder: str | Path) -> None:
        """Quantised weights are saved as float16, all others as they are."""
        _save(self, self.config, Path(folder))


class SeedVr2Autoencoder(VideoVae):
    """`encode(video)`, `decode(latents)`: see VideoVae. Sizes are in `config`."""

    @classmethod
    def from_single_file(
        cls, path: str | Path, *, device: torch.device | str = CPU, dtype: torch.dtype = torch.float32
    ) -> Self:
        """Of the published file, or one of that make; computes in `dtype`. Raises WeightsInvalid, FileMissing."""
        return cast(Self, load_vae(Path(path), torch.device(device), dtype, make=cls))

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | str = CPU, dtype: torch.dtype = torch.float32
    ) -> Self:
        """Raises WeightsInvalid, FileMissing."""
        facts = _facts(Path(folder), cls.__name__, VaeConfig)
        config = VaeConfig(**{**facts, "channels": tuple(facts["channels"])})
        vae = load_vae(Path(folder) / WEIGHTS, torch.device(device), dtype, make=lambda _: cls(config))
        return cast(Self, vae)

    def save_pretrained(self, folder: str | Path) -> None:
        _save(self, self.config, Path(folder))


def text_embedding(
    path: str | Path, transformer: Dit, *, device: torch.device | str = CPU, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The one prompt that SeedVR2 was distilled with, length text_dim, of the file that `upres download` makes."""
    return load_text(Path(path), transformer.config.text_dim, torch.device(device), dtype)


def _save(network: nn.Module, config: DitConfig | VaeConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, Linear) and module.quantised is not None:
            state[f"{name}.weight"] = module.dense_weight(torch.float16)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    facts = {"_class_name": type(network).__name__, **asdict(config)}
    (folder / CONFIG).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def _facts(folder: Path, name: str, kind: type[DitConfig | VaeConfig]) -> dict[str, Any]:
    """Raises FileMissing, and WeightsInvalid if it is another class's or lacks something."""
    try:
        facts: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
    except FileNotFoundError:
        raise FileMissing(f"{folder / CONFIG}: no such file", remedy="give a folder of save_pretrained") from None
    wanted = {"_class_name", *(field.name for field in fields(kind))}
    if facts.get("_class_name") != name or set(facts) != wanted:
        raise WeightsInvalid(f"{folder / CONFIG} is of {facts.get('_class_name')} and says {', '.join(sorted(facts))}",
                             remedy=f"give a folder that {name}.save_pretrained wrote")  # fmt: skip
    return {key: value for key, value in facts.items() if key != "_class_name"}
