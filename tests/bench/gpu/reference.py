"""The reference implementation, in a process of its own, with random weights: a checkout given by its path.

    python tests/bench/gpu/reference.py CHECKOUT MODEL FRAMES BATCH [tiny]

What is run is its own four phases (numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1). Changed are two things: weights are
made, not loaded, and the models stay on the device between two runs, so that what is timed is never slower than a real
run of it. Its requirements (omegaconf, diffusers, …) must be importable.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

LIMIT_S = 500
FACTS = "facts: "  # what the line with the answer begins with


def run(checkout: Path, model: str, frames: int, batch: int, tiny: bool, device: torch.device) -> dict[str, Any]:
    """model: 3b or 7b. 960 x 540 to 1080p. Raises RuntimeError with the end of its output if it fails."""
    command = [sys.executable, __file__, str(checkout), model, str(frames), str(batch), *(["tiny"] if tiny else [])]
    if device.type == "cuda":
        torch.cuda.empty_cache()
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, cwd=checkout)
    answer = [line for line in done.stdout.splitlines() if line.startswith(FACTS)]
    if done.returncode or not answer:
        raise RuntimeError(f"the reference ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    facts: dict[str, Any] = json.loads(answer[-1].removeprefix(FACTS))
    return facts


def main(checkout: Path, model: str, frames: int, batch: int, tiny: bool) -> None:
    sys.path[0] = str(checkout)  # instead of this folder
    from src.core import generation_phases as phases
    from src.core import generation_utils as utils
    from src.core import model_configuration, model_loader
    from src.utils.debug import Debug

    def random_weights(model: Any, path: str, device: torch.device, *_: object) -> Any:
        state = {}
        for name, value in model.state_dict().items():
            centre = 1.0 if "norm" in name or name.endswith("scale") else 0.0
            noise = torch.empty(value.shape, device=device, dtype=torch.float32).normal_(centre, 0.02)
            state[name] = noise.to(torch.bfloat16)
        model.load_state_dict(state, strict=False, assign=True)
        model_loader.initialize_meta_buffers(model, device, debug)
        return model

    model_loader._load_model_weights = random_weights
    phases.cleanup_dit = phases.cleanup_vae = lambda **_: None
    if tiny:
        _shrink(model_configuration)
    debug = Debug(enabled=False)
    name = "cuda:0" if torch.cuda.is_available() else "cpu"
    context = utils.setup_generation_context(dit_device=name, vae_device=name, tensor_offload_device="cpu", debug=debug)
    runner, cache = utils.prepare_runner(
        dit_model=f"seedvr2_ema_{model}_fp16.safetensors", vae_model="ema_vae_fp16.safetensors",
        model_dir=str(checkout), debug=debug, ctx=context,
    )  # fmt: skip
    height, width, target = (32, 48, 64) if tiny else (540, 960, 1080)
    images = torch.rand(frames, height, width, 3).half()
    seconds: dict[str, float] = {}
    for _ in range(2):  # the first time is not counted
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        context = utils.setup_generation_context(dit_device=name, vae_device=name, tensor_offload_device="cpu",
                                                 debug=debug)  # fmt: skip
        context["cache_context"] = cache
        context["text_embeds"] = utils.load_text_embeddings(str(checkout), context["dit_device"],
                                                            context["compute_dtype"], debug)  # fmt: skip
        given, _ = utils.compute_generation_info(ctx=context, images=images, resolution=target, batch_size=batch,
                                                 debug=debug)  # fmt: skip
        seconds = _phases(phases, runner, context, given, batch, target, debug)
    total = sum(seconds.values())
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print(FACTS + json.dumps({"frames_per_s": frames / total, "seconds": seconds, "peak_bytes": peak}))


@torch.no_grad()
def _phases(phases: Any, runner: Any, context: Any, images: torch.Tensor, batch: int, target: int,
            debug: Any) -> dict[str, float]:  # fmt: skip
    ways = {
        "encode": lambda c: phases.encode_all_batches(runner, ctx=c, images=images, debug=debug, batch_size=batch,
                                                      resolution=target, color_correction="lab"),
        "transformer": lambda c: phases.upscale_all_batches(runner, ctx=c, debug=debug),
        "decode": lambda c: phases.decode_all_batches(runner, ctx=c, debug=debug),
        "colour": lambda c: phases.postprocess_all_batches(ctx=c, debug=debug, color_correction="lab",
                                                           batch_size=batch),
    }  # fmt: skip
    seconds = {}
    for name, way in ways.items():
        began = time.perf_counter()
        context = way(context)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds[name] = time.perf_counter() - began
    assert torch.isfinite(context["final_video"]).all()
    return seconds


def _shrink(model_configuration: Any) -> None:
    """Its configurations with tiny numbers."""
    load = model_configuration.load_config

    def small(path: str) -> Any:
        config = load(path)
        if "dit" in config:
            model = config.dit.model
            model.vid_dim, model.heads, model.head_dim = 64, 2, 32
            if "rope_dim" in model:
                model.rope_dim = 32
            model.num_layers = 2
            if "mm_layers" in model:  # the 3B's
                model.mm_layers = 1
        else:
            config.block_out_channels, config.norm_num_groups = [8, 16, 24, 24], 4
        return config

    model_configuration.load_config = small


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), len(sys.argv) > 5)
