"""What SeedVR2 needs on a device for a clip, predicted from sizes alone. Integers only: no torch.

The frames, latents and activations that live at the peak of each phase are counted in the modules that hold them; this
one knows which of them are there together. What one operation needs inside itself (a convolution's workspace) it does
not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from upres.models.placement import ClipSize, Needs, Placement
from upres.models.seedvr2.config import (
    INPUT_CHANNELS,
    LATENT_CHANNELS,
    LEAD_SLICES,
    MODULATIONS,
    PATCH,
    PORTION_SLICES,
    SCALE,
    SEEDVR2_VAE,
    TEXT_LENGTH,
    TIME_SCALE,
    TIME_WAVES,
    DitConfig,
    VaeConfig,
)
from upres.models.seedvr2.dit_footprint import SINGLE, Widening, working
from upres.models.seedvr2.fill import on_grid
from upres.models.seedvr2.tiles import cut
from upres.models.seedvr2.vae_footprint import Passing, decoding, encoding

RGB = 3
ENCODER_PARAMETERS, DECODER_PARAMETERS = 100_046_496, 150_601_731  # of the published autoencoder
MERGED_VALUES = 81_883_136  # of its enlargements, beside their parameters (upsample.py)
IN_FLIGHT = 2 * TIME_SCALE + 2  # frames kept beside a block: of the last piece, for a shot's end, to look for cuts
# Bytes of 256 weights. A Q4_K_M file holds about one weight in ten as Q6_K.
STORED = {"fp16": 512, "fp8": 256, "q8": 272, "q4": 151}


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes on the device of each network, and of the parts that a transformer falls into when it is streamed."""

    encoder: int
    decoder: int
    blocks: int  # of the transformer, all of them
    largest_block: int
    rest: int  # of the transformer

    @classmethod
    def published(cls, config: DitConfig, storage: str, value_bytes: int) -> Weights:
        blocks = [_block_parameters(config, index) for index in range(config.layers)]
        stored = STORED["fp16" if storage == "fp16" and value_bytes == 2 else storage]
        decoder = DECODER_PARAMETERS + MERGED_VALUES
        return cls(ENCODER_PARAMETERS * value_bytes, decoder * value_bytes, sum(blocks) * stored // 256,
                   max(blocks) * stored // 256, _rest_parameters(config) * stored // 256)  # fmt: skip

    @property
    def total(self) -> int:
        return self.encoder + self.decoder + self.blocks + self.rest

    def present(self, offload: str) -> tuple[int, int, int]:
        """While encoding, diffusing, decoding."""
        if offload == "none":
            return self.total, self.total, self.total
        streamed = offload == "blocks"
        transformer = self.rest + (2 * self.largest_block if streamed else self.blocks)
        return self.encoder, transformer, self.decoder


def parameters(config: DitConfig) -> int:
    return sum(_block_parameters(config, index) for index in range(config.layers)) + _rest_parameters(config)


def _block_parameters(config: DitConfig, index: int) -> int:
    dim, inner, hidden = config.dim, config.inner, config.hidden
    attention = 3 * inner * dim + inner * dim + dim + 2 * config.head_dim
    mlp = 3 * dim * hidden if config.mlp == "swiglu" else 2 * dim * hidden + hidden + dim
    return (attention + mlp + MODULATIONS * dim) * (1 if index >= config.shared_from else 2)


def _rest_parameters(config: DitConfig) -> int:
    dim, patch = config.dim, PATCH**2
    entry = (patch * INPUT_CHANNELS + 1) * dim + (config.text_dim + 1) * dim
    time = (2 * TIME_WAVES + 1) * dim + (dim + 1) * dim + (dim + 1) * MODULATIONS * dim
    leaving = (dim + 1) * patch * LATENT_CHANNELS + (3 * dim if config.modulated_output else 0)
    return entry + time + leaving


@dataclass(frozen=True, slots=True)
class SeedVr2Footprint:
    """`value_bytes`: of what is computed in: 2 on GPUs, 4 on a CPU."""

    dit: DitConfig
    weights: Weights
    widening: Widening
    value_bytes: int
    vae: VaeConfig = SEEDVR2_VAE
    text_length: int = TEXT_LENGTH
    copies: bool = False  # see vae_footprint.encoding

    @classmethod
    def published(cls, config: DitConfig, storage: str, *, on_gpu: bool) -> SeedVr2Footprint:
        """Of a published file; storage: fp16, fp8, q8 or q4."""
        value_bytes = 2 if on_gpu else 4
        return cls(config, Weights.published(config, storage, value_bytes), Widening.of(storage, value_bytes),
                   value_bytes, copies=not on_gpu)  # fmt: skip

    def needs(self, clip: ClipSize, window: int, placement: Placement) -> Needs:
        if window == 1 or clip.frames <= window:
            return self._batch(clip, on_grid(min(window, clip.frames)), placement)
        return self._stream(clip, window, placement)

    def _batch(self, clip: ClipSize, frames: int, placement: Placement) -> Needs:
        """A batch is there in the type of the computation, and once more as a clip."""
        came = RGB * clip.pixels * max(frames, clip.block)
        encode, decode = self._passages(clip, placement, frames)
        between = RGB * clip.pixels * frames * (SINGLE + self._given())
        encode += 2 * came * self.value_bytes  # the last of it is gone when it is encoded
        held = came * SINGLE if frames == 1 else 0  # a clip of one window is handed over, single frames are shown
        return self._with_weights(clip, frames, placement, frames, held, encode, decode, held, between)

    def _stream(self, clip: ClipSize, window: int, placement: Placement) -> Needs:
        """With its memory carried it is at its worst when a window's frames have been waited for, and go in; in
        portions later, when those are gone: then the frames before the next portion are kept."""
        frame = RGB * clip.pixels
        if placement.carried:
            held = frame * SINGLE * (window + 2 * clip.block)
            frames = max(TIME_SCALE, placement.slice_frames)
            tiles = self._tiles(clip, placement)
            memories = zip(*(self._passing(tile, placement.slice_frames) for tile in tiles), strict=True)
            encoders, decoders = (sum(part.carried for part in parts) * self.value_bytes for parts in memories)
            held += encoders + decoders
            encode, decode = self._passages(clip, placement, frames, carried=True)
            encode += 2 * frames * frame * self.value_bytes
            if clip.frames <= 1 + -(-(window - 1) // frames) * frames:  # all is encoded before anything is decoded
                encode -= decoders
            waiting = 0
        else:
            portion, lead = 1 + TIME_SCALE * PORTION_SLICES, 1 + TIME_SCALE * LEAD_SLICES
            later = min(on_grid(clip.frames) - portion, portion - 1)  # frames of the longest portion behind the first
            frames = on_grid(clip.frames) if later <= 0 else max(portion, lead + later)
            encode, decode = self._passages(clip, placement, frames)
            waiting = frames * frame * self.value_bytes
            led_in = lead * frame * self.value_bytes
            # the first portion is encoded before there is a lead; later ones hold theirs twice
            most = frames if later <= 0 else max(portion, lead + later + lead)
            held = frame * SINGLE * (clip.block + IN_FLIGHT) + led_in
            encode += most * frame * self.value_bytes - led_in
        between = held + waiting + TIME_SCALE * frame * self._given()
        return self._with_weights(clip, window, placement, TIME_SCALE, held, encode, decode, held, between)

    def _with_weights(
        self, clip: ClipSize, window: int, placement: Placement, piece: int,
        held: int, encode: int, decode: int, diffuse: int, between: int,
    ) -> Needs:  # fmt: skip
        encoder, transformer, decoder = self.weights.present(placement.offload)
        latents = (on_grid(window) - 1) // TIME_SCALE + 1
        side = SCALE * PATCH
        grid = (latents, -(-clip.height // side), -(-clip.width // side))
        activations = working(self.dit, grid, self.text_length, self.value_bytes, self.widening)
        return Needs(max(encoder, transformer, decoder), encode=held + encode + encoder,
                     diffuse=diffuse + activations + transformer, decode=held + decode + decoder,
                     between=between + decoder, piece=piece)  # fmt: skip

    def _passages(
        self, clip: ClipSize, placement: Placement, frames: int, *, carried: bool = False
    ) -> tuple[int, int]:
        """Encoding and decoding so many frames: of the largest tile what is computed, remembered (unless that is
        carried, and counted elsewhere) and made; and where there are several, the frame they are put together in."""
        tiles = self._tiles(clip, placement)
        slice_frames = placement.slice_frames if carried else min(placement.slice_frames, max(TIME_SCALE, frames - 1))
        parts = self._passing(max(tiles), 0 if frames == 1 else slice_frames)
        two_slices = frames <= 1 + max(TIME_SCALE, slice_frames)
        encode, decode = (
            self.value_bytes * (part.working if carried else part.closing if two_slices else part.values)
            for part in parts
        )
        made = RGB * frames * max(tiles)
        if len(tiles) == 1:
            return encode, max(decode + made * self.value_bytes, 2 * made * self.value_bytes)
        canvas = RGB * frames * clip.pixels
        tiled = max(decode + made * self.value_bytes, made * (self.value_bytes + max(self.value_bytes, SINGLE)))
        return encode, SINGLE * canvas + max(tiled, canvas * (self._given() - SINGLE))

    def _passing(self, pixels: int, slice_frames: int) -> tuple[Passing, Passing]:
        return (encoding(self.vae, pixels, slice_frames, copies=self.copies),
                decoding(self.vae, pixels, slice_frames, copies=self.copies))  # fmt: skip

    def _tiles(self, clip: ClipSize, placement: Placement) -> list[int]:
        """Pixels of each."""
        if placement.tile is None:
            return [clip.pixels]
        rows, columns = (cut(side, placement.tile, placement.overlap) for side in (clip.height, clip.width))
        return [(r.stop - r.start) * (c.stop - c.start) * SCALE**2 for r in rows for c in columns]

    def _given(self) -> int:
        """Bytes of a value that is there in float32, and in the type of the computation where that is another."""
        return SINGLE if self.value_bytes == SINGLE else SINGLE + self.value_bytes
