"""What a media file is, learnt in a child process. Knows nothing of how its frames are decoded or written."""

from __future__ import annotations

import atexit
import json
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from upres.errors import FileMissing, InvalidInput, MediaFailed, UnsupportedMedia
from upres.media.inspector import in_use
from upres.media.readers import Readers
from upres.tasks import MediaKind

MAX_S = 100 * 3600.0  # of a clip, where no setting says less
MAX_PIXELS = 64_000_000  # of one frame or image: 8K is half of it; a 17 KB PNG can hold 144 million
# Demuxers that read one file and nothing it names. Playlists (hls, concat, dash, sdp) open other files and addresses;
# ffmpeg's protocol whitelist alone does not stop them.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg"
HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
READ_BYTES_PER_S = 50e6  # counting frames reads the whole file; the slowest disk we wait for
_READERS = Readers()
atexit.register(_READERS.close)


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """The facts of one file. Sizes are those of the frames readers yield: after rotation or EXIF orientation."""

    path: Path  # absolute
    kind: MediaKind
    format: str
    codec: str
    width: int
    height: int
    frames: int  # shown frames counted from the packets; 1 for an image
    fps: Fraction  # average; 0 for an image
    duration_s: float
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0  # degrees clockwise from the stored to the shown picture: 0, 90, 180, 270
    pix_fmt: str = ""
    bit_depth: int = 8
    has_alpha: bool = False
    interlaced: bool = False
    variable_frame_rate: bool = False
    color_range: str | None = None  # "tv", "pc"; these four as ffmpeg spells them, None when not tagged
    primaries: str | None = None
    transfer: str | None = None
    matrix: str | None = None
    audio: tuple[str, ...] = ()  # codec names in track order
    subtitles: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()  # of a folder of images, in order
    warnings: tuple[str, ...] = ()  # what the restored file will not carry, whatever is asked for
    damage: str = ""  # what is wrong with the file, if it can be read at all
    foreign_profile: bool = False  # an image's colours are not sRGB's
    mastering: str = ""  # display and light level of an HDR master, as x265 spells them
    light_level: str = ""
    picture_start_s: Fraction = Fraction(0)  # container time of the first frame
    media_start_s: Fraction = Fraction(0)  # container time of the first frame or sound, whichever is earlier

    @property
    def size_bytes(self) -> int:
        """On disk; of a folder its images'."""
        return sum(file.stat().st_size for file in (self.files if self.files else (self.path,)))

    @property
    def deep(self) -> bool:
        """Does it hold more than the 8 bits a sample that conversion from a profile leaves?"""
        return self.bit_depth > 8 and not self.foreign_profile

    @property
    def hdr(self) -> bool:
        return self.transfer in HDR_TRANSFERS


def probe(path: Path, *, timeout_s: float = 30, max_s: float = MAX_S, frame_rate: float = 24) -> MediaInfo:
    """A folder of images is a video of `frame_rate` frames a second; 23.976 means 24000/1001, and so on.

    Raises FileMissing, InvalidInput (also for what is longer than `max_s`), UnsupportedMedia; MediaFailed if the
    reader itself is broken.

    Large files get more time than `timeout_s`: 50 MB/s.
    """
    path = path.absolute()
    size_bytes = 0 if path.is_dir() else _regular_size(path)
    facts = _inspect(path, timeout_s + size_bytes / READ_BYTES_PER_S, max_s)
    if "refused" in facts:
        code, wrong, remedy = facts["refused"]
        refusal = UnsupportedMedia if code == UnsupportedMedia.code else InvalidInput
        raise refusal(f"{path.name} {wrong}", remedy=remedy)
    if "files" in facts:
        facts |= {"fps": str(in_use(Fraction(frame_rate).limit_denominator(1001))), "pictures": 1}
    return _media_info(path, facts)


def _regular_size(path: Path) -> int:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"{path.name} is not a regular file", remedy="give a video, an image or a folder")
        if status.st_size == 0:
            raise InvalidInput(f"{path.name} is empty (0 bytes)", remedy="copy or export it again")
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissing(f"{path.name} does not exist", remedy="check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"{path.name!r} cannot be read ({reason})", remedy="check its name and rights") from error
    return status.st_size


def _inspect(path: Path, timeout_s: float, max_s: float) -> dict[str, Any]:
    arguments = (str(path), str(MAX_PIXELS), str(round(max_s)), CONTAINERS, str(round(timeout_s)))
    try:
        said = _READERS.read(arguments, timeout_s)
        answer = json.loads(said.answer)
    except TimeoutError as error:
        raise InvalidInput(f"{path.name} could not be read in {timeout_s:.0f} s", remedy="export it again") from error
    except ValueError as error:  # no JSON
        if said.status > 0:
            remedy = "reinstall av and pillow"
            raise MediaFailed(f"the reader of {path.name} failed: {said.complaint}", remedy=remedy) from error
        raise InvalidInput(  # a signal: libav crashed, or a limit of the child ended it
            f"{path.name} stopped the reader (signal {-said.status})", remedy="it is damaged; export it again"
        ) from error
    return dict(answer)


def _media_info(path: Path, facts: dict[str, Any]) -> MediaInfo:
    fps = Fraction(facts.get("fps", 0))
    named = ("kind", "format", "codec", "width", "height", "frames", "rotation", "pix_fmt", "bit_depth", "has_alpha",
             "interlaced", "variable_frame_rate", "color_range", "primaries", "transfer", "matrix", "damage",
             "foreign_profile", "mastering", "light_level")  # fmt: skip
    return MediaInfo(
        path=path,
        **{name: facts[name] for name in named if name in facts},
        fps=fps,
        duration_s=float(facts["frames"] / fps) if fps else 0.0,
        sample_aspect=Fraction(facts.get("sample_aspect", 1)),
        files=tuple(path / name for name in facts.get("files", ())),
        audio=tuple(facts.get("audio", ())),
        subtitles=tuple(facts.get("subtitles", ())),
        warnings=tuple(_warnings(facts)),
        picture_start_s=Fraction(facts.get("picture_start", 0)),
        media_start_s=Fraction(facts.get("media_start", 0)),
    )


def _warnings(facts: dict[str, Any]) -> list[str]:
    """One sentence for each thing the restored file will not carry."""
    found: list[str] = []
    if facts["kind"] == "image":
        return found
    if facts["has_alpha"]:
        found.append("the alpha channel is dropped")
    if facts.get("ignored"):
        found.append(f"{facts['ignored']} files of the folder are no images and are ignored")
    if facts.get("cover_art"):
        found.append("the cover art is dropped")
    if facts["pictures"] > 1:
        found.append(f"only the first of {facts['pictures']} video tracks is restored")
    if facts.get("damage"):
        missing = facts["promised_frames"] - facts["frames"]
        lost = f"; {missing} of {facts['promised_frames']} frames are missing" if missing > 0 else ""
        found.append(f"the file is damaged ({facts['damage']}){lost}")
    return found
