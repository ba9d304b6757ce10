"""The transformer, its rotations, the autoencoder: built from a recording's own configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.seedvr2_recorded import text_angles, turned_by, video_angles
from upres.models.seedvr2.causal import Memory
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, DitConfig, VaeConfig
from upres.models.seedvr2.dit import Block, Dit
from upres.models.seedvr2.rope import CentredRope, CountedRope, Rope
from upres.models.seedvr2.tiles import Tiling
from upres.models.seedvr2.vae import VideoVae
from upres.models.seedvr2.windows import Layout, window_layout

from .place import here
from .recording import Check, NotUnderstood, Recording, distance

DIT_TOLERANCE, VAE_TOLERANCE, VAE_MAGNITUDE = 2e-5, 2e-5, 5.0
ROPE_TOLERANCE, HALF_ROPE_TOLERANCE = 2e-6, 1e-3
CPU = torch.device("cpu")


def dit_config(model: str, kwargs: Mapping[str, Any]) -> DitConfig:
    """What we have no field for must be as we have it built in."""
    layers, dim, head_dim = kwargs["num_layers"], kwargs["vid_dim"], kwargs["head_dim"]
    methods = ["720pwin_by_size_bysize", "720pswin_by_size_bysize"]
    fixed = {"vid_in_channels": 33, "vid_out_channels": 16, "txt_dim": dim, "emb_dim": 6 * dim, "norm": "fusedrms",
             "norm_eps": 1e-5, "ada": "single", "qk_bias": False, "qk_norm": "fusedrms", "patch_size": [1, 2, 2],
             "window": [[4, 3, 3]] * layers, "window_method": (methods * layers)[:layers], "shared_mlp": False,
             "shared_qkv": False, "rope_type": "mmrope3d", "rope_dim": head_dim}  # fmt: skip
    for name, value in fixed.items():
        if name in kwargs and kwargs[name] != value:
            raise NotUnderstood(f"{name} is {kwargs[name]}, SeedVR2 has {value}")
    base = {"3b": SEEDVR2_3B, "7b": SEEDVR2_7B}[model]
    mlp = {"swiglu": "swiglu", "normal": "gelu"}[kwargs["mlp_type"]]
    return replace(base, dim=dim, heads=kwargs["heads"], head_dim=head_dim, layers=layers, mlp=mlp,
                   text_dim=kwargs["txt_in_dim"], shared_from=kwargs.get("mm_layers", layers),
                   mlp_ratio=kwargs["expand_ratio"],
                   modulated_output=kwargs.get("vid_out_norm") is not None)  # fmt: skip


def dit_of(weights: Recording) -> Dit:
    dit = Dit(dit_config(weights.config["model"], weights.config["kwargs"]))
    dit.load_state_dict(weights.tensors)
    return dit.eval()


def vae_of(weights: Recording) -> VideoVae:
    kwargs = weights.config["kwargs"]
    config = VaeConfig(channels=tuple(kwargs["block_out_channels"]), norm_groups=kwargs["norm_num_groups"],
                       latent_channels=kwargs["latent_channels"], resnets=kwargs["layers_per_block"])  # fmt: skip
    vae = VideoVae(config)
    vae.load_state_dict(weights.tensors)
    return vae.eval()


def weights(recording: Recording) -> list[Check]:
    """Every key used, every parameter filled; anything else raises."""
    model = vae_of(recording) if recording.config["model"] == "vae" else dit_of(recording)
    ours, recorded = set(model.state_dict()), recording.names
    return [Check(f"keys of {len(recorded)}", len(ours ^ recorded), 0)]


class Recorded(nn.Module):
    """Stands in for the time embedding."""

    def __init__(self, flat: Tensor) -> None:
        super().__init__()
        self.emb = flat.view(-1, 2, 3).permute(1, 2, 0)

    def forward(self, timestep: float, like: Tensor) -> Tensor:
        return self.emb


def transformer(recording: Recording) -> list[Check]:
    """The time embedding, and all that follows from the recorded one.

    Apart, because the last bit of exp, which differs between maths libraries, is a ten-thousandth of a radian at
    t = 1000, and grows on its way. Files without the recorded embedding are held as a whole.
    """
    place = here()
    dit = place.network(dit_of(recording.beside(recording.config["weights"])))
    frames, height, width = recording["in.vid_shape"][0].tolist()
    latent, text = place.put(recording["in.vid"].view(frames, height, width, -1)), place.put(recording["in.txt"])
    timestep = recording["in.timestep"].item()
    checks = []
    if "act.emb" in recording.names:
        emb = dit.emb_in(timestep, like=text).permute(2, 0, 1).reshape(1, -1)
        checks.append(place.near("time embedding", emb, recording["act.emb"], DIT_TOLERANCE))
        dit.emb_in = Recorded(place.put(recording["act.emb"]))  # type: ignore[assignment]
    velocity = dit(latent, text, timestep).reshape(frames * height * width, -1)
    return [*checks, place.near("velocity", velocity, recording["out.vid_sample"], DIT_TOLERANCE)]


def block(recording: Recording) -> list[Check]:
    """One block of the 7B, with its weights."""
    own = {name: value for name, value in recording.tensors.items() if not name.startswith(("in.", "out."))}
    dim, head_dim = own["ada.vid.attn_gate"].shape[0], own["attn.norm_q.vid.weight"].shape[0]
    config = replace(SEEDVR2_7B, dim=dim, heads=dim // head_dim, head_dim=head_dim)
    made, place = Block(config, index=1), here()
    made.load_state_dict(own)
    place.network(made)
    vid, txt = place.put(recording["in.vid"]), place.put(recording["in.txt"])
    layout = window_layout((2, 3, 5), len(txt), place.device, shifted=True)
    out = made(vid, txt, Recorded(place.put(recording["in.emb"])).emb, layout)
    return [place.near(name, ours, recording[f"out.{name}"], DIT_TOLERANCE)
            for name, ours in zip(("vid", "txt"), out, strict=True)]  # fmt: skip


def autoencoder(recording: Recording) -> list[Check]:
    place = here()
    vae = place.network(vae_of(recording.beside(recording.config["weights"])))
    given = {name: place.put(recording[name]) for name in ("in.video", "in.z") if name in recording.names}
    tiling = tiling_of(recording.config.get("tile_size"), recording.config.get("tile_overlap"))
    checks = []
    if "out.moments" in recording.names:
        checks.append(_near("moments", vae.encoder(given["in.video"], Memory()), recording["out.moments"]))
    if "out.latent_mode" in recording.names:
        checks.append(_near("latents", vae.encode(given["in.video"], tiling), recording["out.latent_mode"]))
    if "out.decoded" in recording.names:
        checks.append(_near("frames", vae.decode(given["in.z"], tiling), recording["out.decoded"]))
    return checks


def tiling_of(tile: Any, overlap: Any) -> Tiling | None:
    """Numbers of pixels, or pairs of them: height and width."""
    if tile is None:
        return None
    (tile_h, tile_w), (over_h, over_w) = ((x, x) if isinstance(x, int) else x for x in (tile, overlap))
    return Tiling((tile_h, tile_w), (over_h, over_w))


def _near(what: str, ours: Tensor, recorded: Tensor) -> Check:
    scale = max(1.0, recorded.abs().max().item() / VAE_MAGNITUDE)
    return here().near(what, ours, recorded, VAE_TOLERANCE * scale)


def rope(recording: Recording) -> list[Check]:
    head_dim, text_length = recording.config["head_dim"], recording.config["txt_len"]
    shapes = recording["in.window_shapes"].tolist()
    windows = [Layout.of(([(0, t)], [(0, h)], [(0, w)]), text_length, CPU) for t, h, w in shapes]
    ropes: dict[str, Rope] = {
        "3b": CountedRope(recording.config.get("rope3b_dim", head_dim)),
        "7b": CentredRope(recording.config.get("rope7b_dim", head_dim // 2)),
    }
    checks = [distance(f"{size} frequencies", made.rope.freqs, recording[f"freqs{size}"], ROPE_TOLERANCE * 1e3)
              for size, made in ropes.items()]  # fmt: skip
    for size, made in ropes.items():
        for suffix, dtype in (("", torch.float32), ("_fp16freqs", torch.float16), ("_bf16freqs", torch.bfloat16)):
            made.rope.freqs = recording[f"freqs{size}"].to(dtype)
            tolerance = HALF_ROPE_TOLERANCE if suffix else ROPE_TOLERANCE
            video = torch.cat([video_angles(made, window) for window in windows])
            text = text_angles(made, windows[0]).repeat(len(windows), 1)
            angles = {"vid": video, "txt": text if size == "3b" else None}
            checks += _turned(recording, f"{size}{suffix}", angles, tolerance)
    return checks


def _turned(recording: Recording, label: str, angles: Mapping[str, Tensor | None], tolerance: float) -> list[Check]:
    checks = []
    for stream, known in angles.items():
        if known is not None and f"angles{label}.{stream}" in recording.names:
            recorded = recording[f"angles{label}.{stream}"].float()
            checks.append(distance(f"{label} {stream} angles", known.repeat_interleave(2, -1), recorded, 1e-6))
        for head in ("q", "k"):
            if known is not None and f"out{label}.{stream}_{head}" in recording.names:
                turned = turned_by(recording[f"in.{stream}_{head}"], known)
                checks.append(distance(f"{label} {stream} {head}", turned, recording[f"out{label}.{stream}_{head}"],
                                       tolerance))  # fmt: skip
    return checks


CHECKS: tuple[tuple[Callable[[Recording], bool], Callable[[Recording], Sequence[Check]]], ...] = (
    (lambda r: {"in.vid_shape", "out.vid_sample"} <= r.names, transformer),
    (lambda r: {"in.emb", "out.vid", "out.txt"} <= r.names, block),
    (lambda r: "out.decoded" in r.names or "out.latent_mode" in r.names, autoencoder),
)


def check_elsewhere(path: Path) -> Sequence[Check]:
    """Of what can be computed elsewhere (place.py); nothing of any other file."""
    if path.suffix == ".json":
        return ()
    recording = Recording(path)
    if {"kind", "kwargs"} & set(recording.config):
        return ()
    return next((check(recording) for fits, check in CHECKS if fits(recording)), ())
