"""Still images as arrays and back. Knows nothing of models or of video.

What comes out of `read_image` is sRGB, upright, with alpha where the file has transparency.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from upres.errors import DiskFull, InvalidInput, InvalidParameter
from upres.media.encode import Framing, sync
from upres.media.ffmpeg import FfmpegProcess
from upres.media.inspector import exif_orientation
from upres.media.output import Output
from upres.media.probe import MAX_PIXELS, MediaInfo

PNG_COMPRESSION = 3  # of 9: a third of the time of Pillow's default 6 for files a few per cent larger
DEEP_ORDER = {"png": "be", "tiff": "le"}  # of the bytes of a sample, as the encoders want them
DAMAGE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError,
          Image.DecompressionBombWarning)  # fmt: skip
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}


def read_image(info: MediaInfo, *, deep: bool = False) -> np.ndarray:
    """`H W C`, uint8 or, if `deep`, uint16, C-contiguous; C is 4 when the file has transparency, else 3.

    Raises InvalidInput.
    """
    try:
        with Image.open(info.path, formats=[info.format.upper()]) as image:
            if image.width * image.height > MAX_PIXELS:  # before load: opening reads only the header
                raise InvalidInput(
                    f"{info.path.name} has {image.width}x{image.height} pixels", remedy="reduce its size"
                )
            image.load()
            orientation = exif_orientation(image)
            pixels = _read_16_bits(info, image, deep) if info.bit_depth == 16 else _to_srgb(image, info.has_alpha)
    except DAMAGE as error:
        raise InvalidInput(f"{info.path.name} cannot be decoded ({error})", remedy="export it again") from error
    if deep and pixels.dtype == np.uint8:
        pixels = pixels.astype(np.uint16) * 257
    upright = np.ascontiguousarray(UPRIGHT[orientation](pixels) if orientation in UPRIGHT else pixels)
    if upright.shape[:2] != (info.height, info.width):
        raise InvalidInput(f"{info.path.name} changed since it was probed", remedy="submit it again")
    return upright


def framed(image: np.ndarray, framing: Framing | None) -> np.ndarray:
    """`H W C` within black bars (where it has alpha: transparent ones), or its middle."""
    if framing is None:
        return image
    height, width = image.shape[:2]
    if not framing.bars:
        top, left = (height - framing.height) // 2, (width - framing.width) // 2
        return np.ascontiguousarray(image[top : top + framing.height, left : left + framing.width])
    frame = np.zeros((framing.height, framing.width, image.shape[2]), image.dtype)
    top, left = (framing.height - height) // 2, (framing.width - width) // 2
    frame[top : top + height, left : left + width] = image
    return frame


def write_image(path: Path, image: np.ndarray, output: Output) -> None:
    """`H W C`, uint8, or uint16 where `output.deep`; synced. Raises InvalidParameter, DiskFull, MediaFailed."""
    if output.output_format == "jpeg":
        write_jpeg(path, image, output.quality)
    elif output.deep:
        _write_16_bits(path, image, output.output_format)
    elif output.output_format == "webp":
        _write(path, image, "WEBP", quality=output.quality, lossless=output.quality == 100, exact=True)
    elif output.output_format == "tiff":
        _write(path, image, "TIFF", compression="tiff_deflate")
    else:
        write_png(path, image)


def write_png(path: Path, image: np.ndarray) -> None:
    _write(path, image, "PNG", compress_level=PNG_COMPRESSION)


def write_jpeg(path: Path, image: np.ndarray, quality: int = 90) -> None:
    _write(path, image[..., :3], "JPEG", quality=quality)


def _write_16_bits(path: Path, image: np.ndarray, image_format: str) -> None:
    """By ffmpeg: Pillow has no 16-bit colour."""
    if image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise InvalidParameter(f"the image is {image.dtype} {image.shape}", remedy="give uint16 (H, W, 3 or 4)")
    pix_fmt = "rgba64" if image.shape[2] == 4 else "rgb48"
    arguments = [
        "-f", "rawvideo", "-pix_fmt", f"{pix_fmt}le", "-video_size", f"{image.shape[1]}x{image.shape[0]}",
        "-i", "pipe:0", "-frames:v", "1", "-c:v", image_format, "-pix_fmt", f"{pix_fmt}{DEEP_ORDER[image_format]}",
        "-f", "image2", "-update", "1", "-y", f"file:{path.absolute()}",
    ]  # fmt: skip
    complete = False
    try:
        with FfmpegProcess(arguments, doing=f"writing {path.name}", feeds=True) as process:
            process.write(np.ascontiguousarray(image).data.cast("B"))
            process.finish()
        sync(path)
        complete = True
    finally:
        if not complete:
            path.unlink(missing_ok=True)


def _write(path: Path, image: np.ndarray, image_format: str, **options: int | str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise InvalidParameter(f"the image is {image.dtype} {image.shape}", remedy="give uint8 (H, W, 3 or 4)")
    try:
        with path.open("wb") as file:
            Image.fromarray(image).save(file, image_format, **options)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"writing {path.name}: the disk is full", remedy="free some space and try again") from error
        raise


def _to_srgb(image: Image.Image, has_alpha: bool) -> np.ndarray:
    """Palette, gray, CMYK and foreign colour spaces to RGB; alpha is never touched by the colour transform."""
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if has_alpha else None
    if image.mode not in ("RGB", "L", "CMYK"):
        image = _without_alpha(image)
    rgb = np.asarray(_through_profile(image, image.info.get("icc_profile")))
    return rgb if alpha is None else np.dstack([rgb, alpha])


def _without_alpha(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    image = image.convert("RGBA" if "transparency" in image.info else image.mode).convert("RGB")
    image.info["icc_profile"] = profile
    return image


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A profile that cannot be used is ignored, as viewers do."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                return image.convert("RGB") if converted is None else converted
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def _read_16_bits(info: MediaInfo, image: Image.Image, deep: bool) -> np.ndarray:
    """Pillow cuts 16-bit colour to its high byte; ffmpeg keeps all of it, and 65535/255 = 257 rounds it exactly."""
    demuxer = f"{info.format}_pipe"
    channels, pix_fmt = (4, "rgba64le") if info.has_alpha else (3, "rgb48le")
    words = np.empty((image.height, image.width, channels), np.dtype("<u2"))
    arguments = [
        "-protocol_whitelist", "file", "-format_whitelist", demuxer, "-max_pixels", str(MAX_PIXELS), "-noautorotate",
        "-f", demuxer, "-i", f"file:{info.path}", "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", pix_fmt, "pipe:1",
    ]  # fmt: skip
    with FfmpegProcess(arguments, doing=f"decoding {info.path.name}", yields=True, confined=True) as process:
        got = process.read_into(words.data.cast("B"))
        process.finish()
    if got != words.nbytes:
        raise InvalidInput(f"{info.path.name} is damaged", remedy="export it again")
    if deep and not info.foreign_profile:
        return words.astype(np.uint16, copy=False)
    pixels = ((words.astype(np.uint32) + 128) // 257).astype(np.uint8)
    profile = image.info.get("icc_profile")
    rgb = np.asarray(_through_profile(Image.fromarray(np.ascontiguousarray(pixels[..., :3])), profile))
    return np.dstack([rgb, pixels[..., 3:]]) if info.has_alpha else rgb
