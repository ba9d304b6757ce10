"""The options of `upres upscale` that say how the result is written. Names, limits and defaults are TaskSpec's."""

from __future__ import annotations

import argparse
from typing import get_args

from upres.tasks import Codec, Encoder, Fit, Interlaced, OutputFormat, Preset, TaskSpec

OUTPUT_OPTIONS = ("scale", "width", "height", "fit", "max_side", "codec", "output_format", "crf", "quality",
                  "bit_depth", "preset", "encoder", "interlaced", "strict", "frame_rate")  # fmt: skip


def add_output_options(upscale: argparse.ArgumentParser) -> None:
    default = {name: TaskSpec.model_fields[name].default for name in OUTPUT_OPTIONS}
    size = upscale.add_argument_group("size, instead of --resolution")
    size.add_argument("--scale", type=float, help="times the input's size")
    size.add_argument("--width", type=int, help="exact width; without --height the aspect is kept")
    size.add_argument("--height", type=int, help="exact height; without --width the aspect is kept")
    size.add_argument("--fit", choices=get_args(Fit), help=f"if width x height has another aspect ({default['fit']})")
    size.add_argument("--max-side", type=int, help="no side of the result exceeds it")
    written = upscale.add_argument_group("how the result is written")
    written.add_argument("--codec", choices=get_args(Codec), help=f"of a video's picture ({default['codec']})")
    written.add_argument("--format", dest="output_format", choices=get_args(OutputFormat),
                         help=f"container or image format ({default['output_format']})")  # fmt: skip
    written.add_argument("--crf", type=int, help="quality of a video, lower is better (the codec's default)")
    written.add_argument("--quality", type=int, help=f"of JPEG and WebP, 1 to 100 ({default['quality']})")
    written.add_argument("--bit-depth", type=int, choices=(8, 10, 16), help="bits a sample (the input's)")
    written.add_argument("--preset", choices=get_args(Preset), help=f"of the encoder ({default['preset']})")
    written.add_argument("--encoder", choices=get_args(Encoder), help=f"({default['encoder']})")
    read = upscale.add_argument_group("how the input is read")
    read.add_argument("--interlaced", choices=get_args(Interlaced),
                      help=f"what to do with interlaced video ({default['interlaced']})")  # fmt: skip
    read.add_argument("--strict", action="store_true", default=None,
                      help="refuse a damaged input instead of restoring it as far as it goes")  # fmt: skip
    read.add_argument("--frame-rate", type=float,
                      help=f"of a folder of images, and of nothing else ({default['frame_rate']:g})")  # fmt: skip
