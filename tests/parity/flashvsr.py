"""FlashVSR's networks: built from a recording's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from upres.models.flashvsr.decoder import FRAMES, LEAD, DecoderConfig, TinyDecoder
from upres.models.flashvsr.dit import Dit, DitConfig
from upres.models.flashvsr.locality import Choice, Locality, neighbours, pairs_kept
from upres.models.flashvsr.lq_projection import LqConfig, LqMemory, LqProjection
from upres.models.flashvsr.memory import FIRST_SLICES, SliceMemory
from upres.models.flashvsr.noise import StepNoise
from upres.models.flashvsr.stream import FIRST_LATENTS, STEP_FRAMES, STEP_LATENTS
from upres.models.flashvsr.wan_vae import WanConfig, WanDecoder
from upres.models.flashvsr.windows import SIDE, TOKENS, to_windows
from upres.restore.color import correct, wavelet

from .flashvsr_tiles import decode_tiled
from .recording import Check, NotUnderstood, Recording, distance, relative

CPU = torch.device("cpu")
DIT_TOLERANCE, LQ_TOLERANCE, TINY_TOLERANCE = (1e-4, 1e-4), (2e-4, 1e-4), (1e-4, 1e-4)  # absolute, relative
WAN_TOLERANCE, COLOR_TOLERANCE = 5e-4, 2e-5
FULL_REACH = 16  # of the reference's widest blur, in pixels


def dit_config(model: Mapping[str, Any]) -> DitConfig:
    """What we have no field for must be as we have it built in."""
    for name, value in {"patch_size": [1, 2, 2], "out_dim": model["in_dim"]}.items():
        if model[name] != value:
            raise NotUnderstood(f"{name} is {model[name]}, FlashVSR has {value}")
    return DitConfig(dim=model["dim"], layers=model["num_layers"], heads=model["num_heads"], ffn_dim=model["ffn_dim"],
                     text_dim=model["text_dim"], waves=model["freq_dim"], latent_channels=model["in_dim"],
                     eps=model["eps"])  # fmt: skip


def filled(net: nn.Module, recording: Recording, prefix: str) -> None:
    net.load_state_dict({k.removeprefix(prefix): v for k, v in recording.tensors.items() if k.startswith(prefix)})
    net.eval()


def video(recorded: Tensor) -> Tensor:
    """C T H W, uint8 -> T C H W, [-1, 1]."""
    return rearrange(recorded.float() / 255 * 2 - 1, "c t h w -> t c h w")


class Choices:
    """The masks that a transformer's blocks choose, in order."""

    def __init__(self, dit: Dit) -> None:
        self.masks: list[Tensor] = []
        for module in dit.modules():
            if isinstance(module, Choice):
                module.register_forward_hook(lambda module, given, mask: self.masks.append(mask))


def same(what: str, ours: Tensor, recorded: Tensor) -> Check:
    return distance(what, ours.double(), recorded.double(), 0)


def transformer(recording: Recording) -> list[Check]:
    """Step by step, each with the memory of those before it."""
    config, model = recording.config, dit_config(recording.config["model"])
    dit = Dit(model)
    filled(dit, recording, "w.")
    rows, columns = (side // SIDE for side in config["grid"])
    near = neighbours(rows, columns, config["local_range"], CPU)
    locality = Locality(rows, columns, near, pairs_kept(rows * columns, config["topk_ratio"]))
    conditioning, time = dit.conditioning(recording["context"].flatten(0, -2)), dit.time()
    checks = [
        Check("pairs kept", abs(locality.top - config["topk"]), 0),
        *(relative(name, ours, recording[name], DIT_TOLERANCE)
          for name, ours in zip(("t", "t_mod"), time, strict=True)),
        *(relative(f"text {name}", rearrange(ours, "1 h s d -> s (h d)"), recording[f"block0.cross_cache_{name}"],
                   DIT_TOLERANCE) for name, ours in zip("kv", conditioning.blocks[0].text, strict=True)),
    ]  # fmt: skip
    if "local_mask" in recording.names:
        checks.append(same("near windows", near, recording["local_mask"]))

    choices, memories = Choices(dit), [SliceMemory(int(config["kv_ratio"])) for _ in range(model.layers)]
    for step in range(config["chunks"]):
        latents = recording[f"chunk{step}.x"][0]
        grid = (latents.shape[1], rows * SIDE, columns * SIDE)
        added = [to_windows(recording[f"chunk{step}.lq{layer}"][0].unflatten(0, grid))
                 for layer in range(config["lq_layers"])]  # fmt: skip
        start = FIRST_LATENTS - STEP_LATENTS + STEP_LATENTS * step if step else 0
        velocity = dit(latents, added, start, memories, locality, conditioning)
        checks.append(relative(f"velocity {step}", velocity, recording[f"chunk{step}.out"], DIT_TOLERANCE))
        checks += [same(f"mask {step}.{block}", mask, recording[f"chunk{step}.mask{block}"])
                   for block, mask in enumerate(choices.masks)]  # fmt: skip
        wanted = config["cache_windows_after_chunk"][step]
        checks.append(Check(f"slices kept {step}", abs(len(memories[0]) - wanted), 0))
        choices.masks.clear()
    for name, kept in (("cache_k_block0", memories[0].keys()), ("cache_v_lastblock", memories[-1].values())):
        kept = rearrange(kept, "(n s) h d -> n s (h d)", s=TOKENS)
        checks.append(relative(name, kept, recording[f"final.{name}"], DIT_TOLERANCE))
    return checks


def projection(recording: Recording) -> list[Check]:
    """Both versions, in the first step's and the further steps' clips."""
    config, frames = recording.config, video(recording["video_u8"])
    checks = []
    for version, causal in (("v11", True), ("v10", False)):
        if f"{version}.stream.layer0" not in recording.names:
            continue
        net = LqProjection(LqConfig(tuple(config["hidden"]), config["out_dim"], config["layer_num"]), causal=causal)
        filled(net, recording, "w.")
        memory, steps = LqMemory(), (frames[:25], *frames[25:].split(STEP_FRAMES))
        parts = list(zip(*(net(step, memory) for step in steps), strict=True))
        for layer, tokens in enumerate(map(torch.cat, parts)):
            checks += [relative(f"{version} {kind} {layer}", tokens.flatten(0, 2), recording[name], LQ_TOLERANCE)
                       for kind in ("stream", "forward")
                       if (name := f"{version}.{kind}.layer{layer}") in recording.names]  # fmt: skip
        for name, kept in (("cache_conv1", memory.pixels), ("cache_conv2", memory.hidden)):
            if kept is not None and f"{version}.{name}" in recording.names:
                checks.append(relative(name, kept, recording[f"{version}.{name}"], LQ_TOLERANCE))
    return checks


def tiny_decoder(recording: Recording) -> list[Check]:
    config, frames = recording.config, video(recording["cond_u8"])
    if config["latent_channels"] != 784 or config["frames_to_trim"] != LEAD:
        raise NotUnderstood(f"a decoder of {config['latent_channels']} channels, {config['frames_to_trim']} trimmed")
    net = TinyDecoder(DecoderConfig(tuple(config["channels"])))
    filled(net, recording, "w.")
    memory, checks = net.open(), []
    for step in range(config["chunks"]):
        latents = recording[f"chunk{step}.latents"][0]
        given, frames = frames.tensor_split([FRAMES * latents.shape[1] - (0 if step else LEAD)])
        ours = net(latents, given, memory)
        checks.append(relative(f"frames {step}", (ours + 1) / 2, recording[f"chunk{step}.out"], TINY_TOLERANCE))
    return checks


def wan_decoder(recording: Recording) -> list[Check]:
    net = WanDecoder(WanConfig(recording.config["dim"]))
    filled(net, recording, "w.")
    latents = recording["z"][0]
    raw = rearrange(net.decode(latents, net.open()), "t c h w -> c t h w")
    checks = [distance("frames", raw.clamp(-1, 1), recording["out"], WAN_TOLERANCE)]
    if "raw_last4" in recording.names:
        checks.append(distance("unclamped", raw[:, -4:], recording["raw_last4"], WAN_TOLERANCE))
    if "out_tiled" in recording.names:
        tiled = decode_tiled(net, latents, recording.config["tile_size"], recording.config["tile_stride"])
        checks.append(distance("tiled", rearrange(tiled, "t c h w -> c t h w"), recording["out_tiled"], WAN_TOLERANCE))
    return checks


def choices(recording: Recording) -> list[Check]:
    """Integers, neighbourhoods and masks: all exactly."""
    config = recording.config
    table = recording["table"].tolist()
    wrong = sum(not _row_holds(dict(zip(config["columns"], row, strict=True))) for row in table)
    checks = [Check(f"wrong rows of {len(table)}", wrong, 0)]
    for rows, columns, reach in config["local_masks"]:
        ours = neighbours(rows, columns, reach, CPU)
        checks.append(same(f"near {rows}x{columns} {reach}", ours, recording[f"local_mask.{rows}x{columns}.r{reach}"]))
    for number, case in enumerate(config["synthetic"]):
        near = neighbours(*case["grid"], case["local_range"], CPU)
        q, k = (rearrange(recording[f"syn{number}.{name}"], "n s (h d) -> n s h d", h=case["heads"]).mean(1)
                for name in "qk")  # fmt: skip
        checks.append(same(f"mask {number}", Choice()(q, k, near, case["topk"]), recording[f"syn{number}.mask"]))
    if "tie.mask" in recording.names:  # equal scores everywhere, and fewer kept than there are
        heads, queries, keys = recording["tie.mask"].shape
        near = torch.ones(queries, queries, dtype=torch.bool)
        ours = Choice()(torch.ones(queries, heads, 8), torch.ones(keys, heads, 8), near, queries * keys // 2 - 4)
        checks.append(same("ties", ours, recording["tie.mask"]))
    return checks


def _row_holds(row: Mapping[str, int]) -> bool:
    """One clip's numbers, step by step."""
    locality = Locality.of(row["H"], row["W"], row["sparse_ratio_x1000"] / 1000, 11, CPU)
    memory = SliceMemory(int(row["kv_ratio_x1000"] / 1000))
    numbers = {"window_size": locality.windows, "square_num": locality.windows**2, "topk": locality.top,
               "kv_len": memory.kept}  # fmt: skip
    one = torch.zeros(1, 1, 1)
    for step in range(sum(name.startswith("kv_slices_attended_step") for name in row)):
        slices = 1 if step else FIRST_SLICES
        memory.room(slices, (slices, 1, 1), slices, one)
        means = memory.see(one.expand(slices, 1, 1)).means
        pairs = locality.windows**2 * len(means)
        numbers |= {f"kv_slices_attended_step{step}": len(means), f"cached_slices_after_step{step}": len(memory),
                    f"apply_topk_step{step}": min(pairs - 1, locality.top)}  # fmt: skip
    return all(row[name] == value for name, value in numbers.items())


def noise(recording: Recording) -> list[Check]:
    """Each step's; and the whole clip's, drawn at once, which a stream without an end cannot do."""
    seed, checks = recording.config["seed"], []
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        recorded = recording[f"official.all.{name}"]
        ours = torch.randn(recorded.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        checks.append(same(f"whole {name}", ours, recorded))
        source = StepNoise(seed, CPU, dtype)
        for step in range(sum(part.startswith("app.step") and part.endswith(name) for part in recording.names)):
            recorded = recording[f"app.step{step}.{name}"]
            checks.append(same(f"step {step} {name}", source.draw(step, tuple(recorded.shape[1:])), recorded))
    return checks


def color(recording: Recording) -> list[Check]:
    """Of frames of any size: ours alone narrows the blur on small ones."""
    restored, source = (rearrange(recording[name], "1 c t h w -> t c h w") for name in ("hq", "lq"))
    ours = {"adain": correct("adain", restored, source).clamp(-1, 1),
            "wavelet": wavelet(restored, source, reach=FULL_REACH)}  # fmt: skip
    return [distance(name, rearrange(frames, "t c h w -> c t h w")[:, : recording[name].shape[2]], recording[name],
                     COLOR_TOLERANCE)
            for mode, frames in ours.items() for name in sorted(recording.names) if name.startswith(mode)]  # fmt: skip
