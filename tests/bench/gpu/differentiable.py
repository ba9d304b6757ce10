"""SeedVR2's networks once more, over the same parameters, such that gradients pass. Knows nothing of losses or clips.

Here a clip of the autoencoder is passed whole, its frames lying in the batch: a causal 3 x 3 x 3 convolution is one of
pictures that hold three frames' channels, and where there is a single frame, of the weights' sum over time. Weights may
be float32 and x bfloat16: they are rounded at each use.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from upres.models.seedvr2.causal import CausalConv3d
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.norm import FrameNorm
from upres.models.seedvr2.sampler import TIMESTEP
from upres.models.seedvr2.upsample import Upsample
from upres.models.seedvr2.vae import Decoder, DownBlock, Encoder, FrameAttention, MidBlock, ResnetBlock, UpBlock
from upres.models.seedvr2.windows import Layout


def encode(encoder: Encoder, video: Tensor) -> Tensor:
    """B 3 4n+1 H W -> the posterior's mean, B 16 n+1 H/8 W/8."""
    x, frames = _pictures(video)
    x = _causal(encoder.conv_in, x, frames)
    for block in encoder.down_blocks:
        assert isinstance(block, DownBlock)
        for resnet in block.resnets:
            x = _resnet(resnet, x, frames)
        for downsample in block.downsamplers:
            x = _causal(downsample.conv, x, frames)
            frames = (frames - 1) // downsample.conv.stride[0] + 1
    x = _middle(encoder.mid_block, x, frames)
    x = _causal(encoder.conv_out, _normed(encoder.conv_norm_out, x), frames)
    return _clips(x, frames).chunk(2, dim=1)[0]


def decode(decoder: Decoder, latents: Tensor) -> Tensor:
    """B 16 n+1 H W -> B 3 4n+1 8H 8W."""
    x, frames = _pictures(latents)
    x = _middle(decoder.mid_block, _causal(decoder.conv_in, x, frames), frames)
    for block in decoder.up_blocks:
        assert isinstance(block, UpBlock)
        for resnet in block.resnets:
            x = _resnet(resnet, x, frames)
        for upsample in block.upsamplers:
            x, frames = _enlarged(upsample, x, frames)
    return _clips(_causal(decoder.conv_out, _normed(decoder.conv_norm_out, x), frames), frames)


def velocity(dit: Dit, latent: Tensor, text: Tensor, layouts: tuple[Layout, Layout]) -> Tensor:
    """As Dit.forward at inference's timestep, nothing being kept but what goes into each block: float32 alone, since
    passes over narrower types write where they read. layouts: regular and shifted."""
    frames, height, width, _ = latent.shape
    vid, txt = dit.vid_in(latent), dit.txt_in(text)
    emb = dit.emb_in(TIMESTEP, like=vid)
    for index, block in enumerate(dit.blocks):
        vid, txt = checkpoint(block, vid, txt, emb, layouts[index % 2], use_reentrant=False)
    if dit.config.modulated_output:
        vid = dit.vid_out_ada(dit.vid_out_norm(vid), emb)
    predicted: Tensor = dit.vid_out(vid, (frames, height // 2, width // 2))
    return predicted


def _pictures(clip: Tensor) -> tuple[Tensor, int]:
    return rearrange(clip, "b c t h w -> (b t) c h w"), clip.shape[2]


def _clips(x: Tensor, frames: int) -> Tensor:
    return rearrange(x, "(b t) c h w -> b c t h w", t=frames)


def _causal(conv: CausalConv3d, x: Tensor, frames: int) -> Tensor:
    """In pictures; the clip's first frame is seen again before itself."""
    if conv.border:
        x = F.pad(x, (0, conv.border, 0, conv.border))
    weight, taps, step = conv.weight.to(x.dtype), conv.kernel_size[0], conv.stride[0]
    if taps == 1 or frames == 1:
        weight = weight.sum(dim=2)
    else:
        clip = rearrange(x, "(b t) c h w -> b t h w c", t=frames)
        clip = torch.cat((*(clip[:, :1],) * conv.lead, clip), dim=1)
        last = frames + conv.lead - taps + 1
        seen = torch.cat([clip[:, tap : tap + last : step] for tap in range(taps)], dim=-1)
        x = rearrange(seen, "b t h w c -> (b t) c h w")
        weight = rearrange(weight, "o i t h w -> o (t i) h w")
    return _convolved(x, weight, conv.bias, conv.stride[1:], conv.padding[1:])  # type: ignore[arg-type]


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...] = (1, 1),
               padding: tuple[int, ...] = (0, 0)) -> Tensor:  # fmt: skip
    x, weight = (part.contiguous(memory_format=torch.channels_last) for part in (x, weight.to(x.dtype)))
    return F.conv2d(x, weight, None if bias is None else bias.to(x.dtype), stride, padding)


def _normed(norm: FrameNorm, x: Tensor, *, silu: bool = True) -> Tensor:
    normed = F.group_norm(x, norm.num_groups, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
    return F.silu(normed) if silu else normed


def _resnet(block: ResnetBlock, x: Tensor, frames: int) -> Tensor:
    h = _causal(block.conv1, _normed(block.norm1, x), frames)
    h = _causal(block.conv2, _normed(block.norm2, h), frames)
    if block.conv_shortcut is not None:
        x = _convolved(x, block.conv_shortcut.weight[:, :, 0], block.conv_shortcut.bias)
    return x + h


def _middle(block: MidBlock, x: Tensor, frames: int) -> Tensor:
    x = _resnet(block.resnets[0], x, frames)
    x = x + _attention(block.attentions[0], x)
    return _resnet(block.resnets[1], x, frames)


def _attention(block: FrameAttention, x: Tensor) -> Tensor:
    """As products: SDPA has no fast way back for a head as wide as this."""
    tokens = rearrange(_normed(block.group_norm, x, silu=False), "n c h w -> n (h w) c")
    q, k, v = (_linear(part, tokens) for part in (block.to_q, block.to_k, block.to_v))
    weights = torch.softmax((q @ k.mT).float() * q.shape[-1] ** -0.5, dim=-1).to(v.dtype)
    return rearrange(_linear(block.to_out[0], weights @ v), "n (h w) c -> n c h w", h=x.shape[2])


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _enlarged(upsample: Upsample, x: Tensor, frames: int) -> tuple[Tensor, int]:
    factor = upsample.time_factor
    x = _convolved(x, upsample.upscale_conv.weight[:, :, 0], upsample.upscale_conv.bias)
    x = rearrange(x, "(b t) (p q f c) h w -> b (t f) c (h p) (w q)", t=frames, p=2, q=2, f=factor)
    if factor == 2:  # the first latent frame holds one frame, not two
        x = torch.cat((x[:, :1], x[:, 2:]), dim=1)
    frames = x.shape[1]
    return _causal(upsample.conv, x.flatten(0, 1), frames), frames
