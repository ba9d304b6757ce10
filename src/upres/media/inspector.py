"""The child process of `probe`: opens one untrusted file and prints what it is, as a line of JSON.

Run by its path: it must start fast and may crash. Knows nothing of the rest of Upres (importing the package would cost
more than the work itself), of what is worth a warning, or of how the facts are used.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import statistics
import struct
import sys
import warnings
from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

IMAGE_MAGIC = ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"BM", "BMP"),
               (b"II*\x00", "TIFF"), (b"MM\x00*", "TIFF"))  # fmt: skip
PLAYLIST_MAGIC = (b"#EXTM3U", b"ffconcat version", b"<MPD", b"v=0\r\n", b"v=0\n", b"[playlist]")
HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")
MEMORY_LIMIT_BYTES = 6 << 30  # address space, not resident memory: libav's thread stacks count fully
FIRST_FRAME_PACKETS = 1000  # a stream cut in mid-GOP begins with packets that decode to nothing; give up after these
PR_SET_PDEATHSIG = 1  # linux/prctl.h: this process ends with the thread that started it
MAX_RATE = 1000  # frames per second; a higher value is a timestamp quirk, not a rate
SAME_RATE = 1e-5  # a hundredth of what lies between 24 and 24000/1001
IN_USE = [Fraction(n) for n in (24, 25, 30, 50, 60, 12, 15, 48, 100, 120)] + [
    Fraction(n * 1000, 1001) for n in (24, 30, 60, 120)
]
# ISO/IEC 23091-2 code points, spelled as ffmpeg spells them
PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
             10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213"}  # fmt: skip
TRANSFER = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 11: "iec61966-2-4",
            12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428",
            18: "arib-std-b67"}  # fmt: skip
MATRIX = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
          10: "bt2020c", 14: "ictcp"}  # fmt: skip
RANGE = {1: "tv", 2: "pc"}
UNKNOWN_CODEC = "unknown"

Facts = dict[str, Any]


class Refused(Exception):
    """(error code, what is wrong, remedy): the parent puts the file's name before it."""


def limit_resources(seconds: int, parent: int) -> None:
    """The parent's timeout is the first line; these hold if the parent is gone or libav runs wild."""
    if sys.platform == "win32":
        return
    import resource

    signal.alarm(seconds + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            sys.exit(1)


def inspect(path: str, max_pixels: int, max_seconds: int, containers: str) -> Facts:
    if os.path.isdir(path):
        return inspect_folder(path, max_pixels)
    with open(path, "rb") as file:
        head = file.read(64)
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(PLAYLIST_MAGIC):
        raise Refused("unsupported_media", "is a playlist, which names other files", "give the video file itself")
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        raise Refused("unsupported_media", "is a HEIF or AVIF image", "convert it to PNG or JPEG")
    image_format = image_format_of(head)
    if image_format is not None:
        return inspect_image(path, image_format, max_pixels)
    return inspect_video(path, max_pixels, max_seconds, containers)


def refuse_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        wrong = f"has {width}x{height} pixels a frame, more than {max_pixels}"
        raise Refused("invalid_input", wrong, "reduce its size")


def refuse_seconds(seconds: float, max_seconds: int) -> None:
    if seconds > max_seconds:
        wrong = f"is {seconds / 3600:.1f} hours long, more than {max_seconds / 3600:g}"
        raise Refused("invalid_input", wrong, "cut it into pieces, or set UPRES_MAX_HOURS")


# ---- images -------------------------------------------------------------------------------------------------------


def inspect_image(path: str, image_format: str, max_pixels: int) -> Facts:
    """Decodes the whole image: damage, and a crash of an image library, shall show here and not in the caller."""
    limit_pillow(max_pixels)
    facts = image_facts(path, image_format, max_pixels, decode=True)
    frames = facts.pop("images")
    if frames > 1:
        raise Refused("unsupported_media", f"is an animated {image_format} of {frames} frames", "convert it to MP4")
    return facts


def limit_pillow(max_pixels: int) -> None:
    """Of all that this process opens, so for processes that only read."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max_pixels


def image_facts(path: str, image_format: str, max_pixels: int, *, decode: bool) -> Facts:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(), Image.open(path, formats=[image_format]) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            refuse_pixels(image.width, image.height, max_pixels)
            if image.mode in ("F", "I"):
                wrong = f"is a {image_format} of 32 bits per sample"
                raise Refused("unsupported_media", wrong, "convert it to 16 bits")
            frames = int(getattr(image, "n_frames", 1)) if image_format in ("PNG", "WEBP", "TIFF") else 1
            if decode and frames == 1:
                image.load()
            turned = exif_orientation(image) >= 5  # 5 to 8 lie on their side
            width, height = (image.height, image.width) if turned else image.size
            name = image_format.lower()
            return {"kind": "image", "format": name, "codec": name, "width": width, "height": height, "frames": 1,
                    "pix_fmt": image.mode, "bit_depth": sample_bits(image, path), "images": frames,
                    "has_alpha": bool(image.has_transparency_data),
                    "foreign_profile": foreign_profile(image)}  # fmt: skip
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused("invalid_input", f"has more than {max_pixels} pixels", "reduce its size") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise Refused("invalid_input", f"is a damaged {image_format} ({error})", "export it again") from error


def image_format_of(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in IMAGE_MAGIC if head.startswith(magic)), None)


# ---- folders of images --------------------------------------------------------------------------------------------


def inspect_folder(path: str, max_pixels: int) -> Facts:
    """Reads the heads alone. The order is that of the names, numbers in them counted as numbers."""
    limit_pillow(max_pixels)
    names = sorted((entry.name for entry in os.scandir(path) if entry.is_file() and entry.name[0] != "."), key=natural)
    found: list[Facts] = []
    for name in names:
        with open(os.path.join(path, name), "rb") as file:
            image_format = image_format_of(file.read(64))
        if image_format is None:
            continue
        try:
            found.append(image_facts(os.path.join(path, name), image_format, max_pixels, decode=False) | {"file": name})
        except Refused as refusal:
            raise Refused(refusal.args[0], f"holds {name}, which {refusal.args[1]}", refusal.args[2]) from refusal
        size = (found[-1]["width"], found[-1]["height"])
        if size != (found[0]["width"], found[0]["height"]):
            wrong = f"holds images of different sizes: {name} has {size[0]}x{size[1]}"
            raise Refused("invalid_input", wrong, "submit each by itself, or give frames of one size")
    if not found:
        raise Refused("invalid_input", "is a folder without images", "submit each file in it by itself; only a folder "
                      "of images, which are the frames of one video, is taken whole")  # fmt: skip
    return {
        **found[0], "kind": "video", "format": "folder", "frames": len(found),
        "files": [each["file"] for each in found],
        "bit_depth": max(each["bit_depth"] for each in found), "has_alpha": any(each["has_alpha"] for each in found),
        "foreign_profile": any(each["foreign_profile"] for each in found), "ignored": len(names) - len(found),
    }  # fmt: skip


def natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def exif_orientation(image: Any) -> int:
    """1 to 8; 1, upright, also when the EXIF block is damaged: that is no reason to refuse the picture."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return 1


def foreign_profile(image: Any) -> bool:
    """Is there a colour profile other than sRGB? One that cannot be read counts as none, as in viewers."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info.get("icc_profile") or b""))
        return not ImageCms.getProfileDescription(profile).startswith("sRGB")
    except (ImageCms.PyCMSError, OSError):
        return False


def sample_bits(image: Any, path: str) -> int:
    """Of the decoded picture: small ones are palettes or gray, which decode to 8."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 8)  # TIFF 6.0, section 8, BitsPerSample
        return max(8, *map(int, bits if isinstance(bits, tuple) else (bits,)))
    if image.format != "PNG":
        return 8
    with open(path, "rb") as file:
        return max(8, file.read(25)[24])  # PNG specification, 11.2.2 IHDR


# ---- video --------------------------------------------------------------------------------------------------------


def inspect_video(path: str, max_pixels: int, max_seconds: int, containers: str) -> Facts:
    import av

    av.logging.set_level(av.logging.ERROR)  # the reason of a refusal is only in the log
    whitelists = {"protocol_whitelist": "file", "format_whitelist": containers}
    try:
        container = av.open(f"file:{path}", options=whitelists, metadata_errors="replace")
    except av.error.FFmpegError as error:
        log: Any = error.log  # (level, part of libav, message) of the last line, or None
        source, reason = log[1:] if log else ("", str(error.strerror))
        if "not on whitelist" in reason:
            raise Refused("unsupported_media", f"is of the kind {source}", "convert it to MP4, MKV or PNG") from error
        raise Refused(
            "invalid_input", f"cannot be read as video or image ({reason.strip()})",
            "it is damaged, incomplete or neither of them: check the file, or export it again",
        ) from error
    av.logging.set_level(None)
    with container:
        pictures = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not pictures:
            raise Refused("unsupported_media", "has no picture", "give a video or an image")
        stream = pictures[0]
        if stream.codec_context is None:
            raise Refused("unsupported_media", "has a picture in an unknown codec", "convert it to H.264")
        refuse_pixels(stream.width, stream.height, max_pixels)
        refuse_seconds((container.duration or 0) / av.time_base, max_seconds)  # before all of it is read
        return video_facts(container, stream, read_packets(container, stream, av.error.FFmpegError)) | {
            "pictures": len(pictures),
            "cover_art": len(pictures) < len(container.streams.video),
        }


class Packets:
    """What one pass over the packets of a stream yields: shown times, the first decoded frame, damage."""

    def __init__(self) -> None:
        self.times = array("q")  # ticks of the time base, unsorted
        self.last_duration = 0
        self.frame: Any = None
        self.damage = ""


def read_packets(container: Any, stream: Any, failures: type[Exception]) -> Packets:
    stream.codec_context.thread_count = 1
    found, seen, hidden_vp8 = Packets(), 0, stream.codec_context.name == "vp8"
    try:
        for packet in container.demux(stream):
            if found.frame is None and seen < FIRST_FRAME_PACKETS:
                found.frame = next(decoded(packet, failures), None)
            if packet.size == 0:  # the flush packet at the end
                continue
            seen += 1
            if packet.is_corrupt:
                found.damage = "a cut-off packet"
            if packet.is_discard or (hidden_vp8 and not memoryview(packet)[0] & 0x10):  # RFC 6386, 9.1: show_frame
                continue
            time = packet.pts if packet.pts is not None else packet.dts
            found.times.append(time if time is not None else (found.times[-1] + 1 if found.times else 0))
            found.last_duration = packet.duration or found.last_duration
    except failures as error:
        found.damage = str(error)
    if not found.times or found.frame is None:
        raise Refused("invalid_input", "has no frame that can be decoded", "export it again")
    return found


def decoded(packet: Any, failures: type[Exception]) -> Iterator[Any]:
    try:
        yield from packet.decode()
    except failures:
        return


def video_facts(container: Any, stream: Any, packets: Packets) -> Facts:
    frame, context, base = packets.frame, stream.codec_context, stream.time_base
    times = sorted(packets.times)
    mastering, light_level = hdr_metadata(frame)
    fps, variable = frame_rate(times, base, packets.last_duration, hints(stream))
    rotation = (-round(frame.rotation / 90) * 90) % 360  # libav counts counter-clockwise
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width, height = frame.width, frame.height
    if rotation in (90, 270):
        width, height, aspect = height, width, 1 / aspect
    picture_start = times[0] * base
    sounds = [s.start_time * s.time_base for s in container.streams.audio if s.start_time is not None]
    names = container.format.name.split(",")
    suffix = container.name.rpartition(".")[2].lower()
    alpha = any(part.is_alpha for part in frame.format.components) or stream.metadata.get("alpha_mode") == "1"
    return {
        "kind": "video", "format": suffix if suffix in names else names[0], "codec": codec_name(stream),
        "width": width, "height": height, "frames": len(times), "fps": str(fps), "sample_aspect": str(aspect),
        "rotation": rotation, "pix_fmt": frame.format.name, "has_alpha": alpha, "interlaced": frame.interlaced_frame,
        "bit_depth": max(part.bits for part in frame.format.components), "variable_frame_rate": variable,
        "color_range": "pc" if frame.format.name.startswith("yuvj") else RANGE.get(frame.color_range),
        "primaries": PRIMARIES.get(frame.color_primaries, PRIMARIES.get(context.color_primaries)),
        "transfer": TRANSFER.get(frame.color_trc, TRANSFER.get(context.color_trc)),
        "matrix": MATRIX.get(frame.colorspace, MATRIX.get(context.colorspace)),
        "audio": [codec_name(s) for s in container.streams.audio],
        "subtitles": [codec_name(s) for s in container.streams.subtitles],
        "picture_start": str(picture_start), "media_start": str(min([picture_start, *sounds])),
        "mastering": mastering, "light_level": light_level,
        "damage": packets.damage, "promised_frames": stream.frames,
    }  # fmt: skip


def hdr_metadata(frame: Any) -> tuple[str, str]:
    """Mastering display and content light level in x265's spelling, empty where the frame has none.

    libavutil's AVMasteringDisplayMetadata: 20 integers, ten fractions in the order R, G, B, white (x and y each), least
    and largest luminance, then two flags. AVContentLightMetadata: largest and average level.
    """
    mastering = light_level = ""
    try:
        blocks = {block.type.name: bytes(block) for block in frame.side_data}
    except ValueError:  # a kind that PyAV has no name for, Exif for one: it then shows none at all
        return mastering, light_level
    if len(raw := blocks.get("MASTERING_DISPLAY_METADATA", b"")) >= 88:
        *terms, has_primaries, has_luminance = struct.unpack("=22i", raw[:88])
        values = [terms[i] / terms[i + 1] if terms[i + 1] else 0.0 for i in range(0, 20, 2)]
        if has_primaries and has_luminance:
            red, green, blue, white = ([round(v * 50_000) for v in values[i : i + 2]] for i in (0, 2, 4, 6))
            least, most = (round(v * 10_000) for v in values[8:10])
            pairs = zip(["G", "B", "R", "WP", "L"], (green, blue, red, white, (most, least)), strict=True)
            mastering = "".join(f"{name}({a},{b})" for name, (a, b) in pairs)
    if len(raw := blocks.get("CONTENT_LIGHT_LEVEL", b"")) >= 8:
        light_level = "{},{}".format(*struct.unpack("=2I", raw[:8]))
    return mastering, light_level


def codec_name(stream: Any) -> str:
    return UNKNOWN_CODEC if stream.codec_context is None else str(stream.codec_context.codec.canonical_name)


def hints(stream: Any) -> list[Fraction]:
    """Rates the container or the codec states, most trusted first."""
    stated = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return [Fraction(rate) for rate in stated if rate and 0 < rate <= MAX_RATE]


def in_use(rate: Fraction) -> Fraction:
    """Matroska states nanoseconds a frame, and so only nearly what was meant: 19001/317 for 60000/1001."""
    return next((known for known in IN_USE if abs(rate / known - 1) < SAME_RATE), rate)


def frame_rate(times: list[int], base: Fraction, last: int, stated: Iterable[Fraction]) -> tuple[Fraction, bool]:
    """Frames per second and whether the rate varies, from sorted times in ticks of `base` seconds."""
    stated, count, span = list(stated), len(times), times[-1] - times[0]
    if count < 2 or span <= 0:
        return (stated[0] if stated else Fraction(25)), False
    steps = [after - before for before, after in itertools.pairwise(times)]
    usual = statistics.median(steps)
    variable = max(abs(step - usual) for step in steps) > max(2, usual / 10)  # 2: two roundings of the time base
    if not variable:
        for rate in [*map(in_use, stated), *IN_USE]:
            if abs((count - 1) / rate / base - span) <= 2:
                return rate, False
    duration = span * base * Fraction(count, count - 1) if not variable or not last else (span + last) * base
    measured = count / duration
    return measured.limit_denominator(max(1, int(1_001_000 / measured))), variable  # ffmpeg's largest -framerate term


def answer(path: str, max_pixels: str, max_seconds: str, containers: str, seconds: str, parent: str) -> str:
    limit_resources(int(seconds), int(parent))
    try:
        found: Facts = inspect(path, int(max_pixels), int(max_seconds), containers)
    except Refused as refusal:
        found = {"refused": refusal.args}
    except MemoryError:
        found = {"refused": ("invalid_input", "needs too much memory to be opened", "reduce its size")}
    return json.dumps(found) + "\n"  # a line that breaks off is none


if __name__ == "__main__":
    sys.stdout.write(answer(*sys.argv[1:]))
