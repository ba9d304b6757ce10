"""read_image and write_png: upright 8-bit sRGB whatever the file was."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from tests.media.clips import moving_gradient
from upres.errors import DiskFull, InvalidInput, InvalidParameter, UnsupportedMedia
from upres.media.images import read_image, write_image, write_jpeg, write_png
from upres.media.output import Output
from upres.media.probe import probe
from upres.pictures.verbs import first_frame

RGB = moving_gradient(1, 40, 30)[0]  # H W C
ALPHA = np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)


def save(path, image, **options):
    image.save(path, **options)
    return path


def read(path):
    info = probe(path)
    image = read_image(info)
    assert image.shape == (info.height, info.width, 4 if info.has_alpha else 3)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert (info.kind, info.frames, info.fps, info.duration_s) == ("image", 1, 0, 0)
    return image


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp"])
def test_lossless_files_are_read_bit_for_bit(name, tmp_path):
    options = {"lossless": True} if name == "a.webp" else {}
    assert np.array_equal(read(save(tmp_path / name, Image.fromarray(RGB), **options)), RGB)


def test_jpeg_is_read(tmp_path):
    image = read(save(tmp_path / "a.jpg", Image.fromarray(RGB), quality=95, subsampling=0))
    assert np.abs(image.astype(int) - RGB).mean() < 2


def test_the_kind_is_told_by_content_not_by_name(tmp_path):
    save(tmp_path / "a.png", Image.fromarray(RGB))
    (tmp_path / "a.png").rename(tmp_path / "a.mp4")
    assert probe(tmp_path / "a.mp4").format == "png"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read(path), expected)


@pytest.mark.filterwarnings("ignore:.*EXIF data:UserWarning")  # Pillow's, as a user would see it in the log
def test_a_damaged_exif_block_does_not_refuse_the_picture(tmp_path):
    for number, junk in enumerate((b"junk", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01")):
        path = save(tmp_path / f"{number}.png", Image.fromarray(RGB), exif=b"Exif\0\0" + junk)
        assert np.array_equal(read(path), RGB)


def test_alpha_is_kept(tmp_path):
    rgba = np.dstack([RGB, ALPHA])
    assert np.array_equal(read(save(tmp_path / "a.png", Image.fromarray(rgba))), rgba)


def test_gray_becomes_rgb_and_gray_with_alpha_rgba(tmp_path):
    assert np.array_equal(read(save(tmp_path / "l.png", Image.fromarray(ALPHA))), np.dstack([ALPHA] * 3))
    both = Image.fromarray(np.dstack([ALPHA, 255 - ALPHA]), "LA")
    assert np.array_equal(read(save(tmp_path / "la.png", both)), np.dstack([ALPHA] * 3 + [255 - ALPHA]))
    bits = Image.fromarray(ALPHA > 100)
    assert np.array_equal(read(save(tmp_path / "1.png", bits)), np.dstack([np.where(ALPHA > 100, 255, 0)] * 3))


def test_a_palette_is_looked_up_with_its_transparency(tmp_path):
    palette = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3, "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)[np.arange(12).reshape(3, 4) % 3]
    assert np.array_equal(read(save(tmp_path / "p.png", palette)), colours)
    image = read(save(tmp_path / "t.png", palette, transparency=1))
    assert np.array_equal(image[..., :3], colours)
    assert np.array_equal(image[..., 3], np.where(np.arange(12).reshape(3, 4) % 3 == 1, 0, 255))


def test_cmyk_becomes_rgb(tmp_path):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[..., 1] = cmyk[..., 2] = 255  # full magenta and yellow: red
    image = read(save(tmp_path / "a.jpg", Image.fromarray(cmyk, "CMYK"), quality=95))
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 3


def png_16(path, samples, color_type):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_are_rounded_not_cut(color_type, channels, tmp_path):
    samples = np.random.default_rng(1).integers(0, 65536, (20, 30, channels))
    samples[0, 0], samples[0, 1] = 65535, 0
    expected = np.floor(samples / 257 + 0.5).astype(np.uint8)
    gray, alpha = expected[..., :-1] if channels in (2, 4) else expected, expected[..., -1:]
    expected = np.concatenate([gray] * (3 // gray.shape[2]) + ([alpha] if channels in (2, 4) else []), -1)
    path = png_16(tmp_path / "a.png", samples, color_type)
    assert np.array_equal(read(path), expected)
    assert probe(path).bit_depth == 16
    assert np.array_equal(read_image(probe(path), deep=True)[..., -1:], samples[..., -1:])


@pytest.mark.parametrize("value", [0x80FF, 0x7F81, 0x0081, 0xFFFF])
def test_the_jpeg_of_16_bits_is_of_rounded_ones(value, tmp_path):
    write_image(tmp_path / "a.png", np.full((16, 16, 3), value, np.uint16), Output("", "png", 16))
    with Image.open(io.BytesIO(first_frame(tmp_path / "a.png"))) as shown:
        assert np.unique(np.asarray(shown)).tolist() == [round(value / 257)]


def test_a_foreign_colour_profile_is_converted_and_srgb_left_alone(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(read(save(tmp_path / "s.png", Image.fromarray(RGB), icc_profile=srgb)), RGB)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # cannot be used for RGB: ignored
    assert np.array_equal(read(save(tmp_path / "l.png", Image.fromarray(RGB), icc_profile=lab)), RGB)
    assert np.array_equal(read(save(tmp_path / "j.png", Image.fromarray(RGB), icc_profile=b"junk")), RGB)
    swapped = np.abs(read(save(tmp_path / "g.png", Image.fromarray(RGB), icc_profile=grb_profile(srgb))).astype(int))
    assert np.abs(swapped - RGB[..., [1, 0, 2]]).mean() < 2


def grb_profile(srgb: bytes) -> bytes:
    """sRGB with its red and green primaries exchanged, under another name."""
    return srgb.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ").replace(
        "sRGB".encode("utf-16-be"), "qRGB".encode("utf-16-be"))  # fmt: skip


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF"])
def test_animations_are_refused_by_name(image_format, tmp_path):
    frames = [Image.fromarray(frame) for frame in moving_gradient(3, 40, 30)]
    path = save(tmp_path / "moving", frames[0], format=image_format, save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedMedia, match=r"moving is .*(animated|gif)"):
        probe(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_cut_off_image_is_invalid(name, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = save(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInput, match=f"{name} is a damaged"):
        probe(tmp_path / name)


def test_an_image_that_changed_after_the_probe_is_refused(tmp_path):
    info = probe(save(tmp_path / "a.png", Image.fromarray(RGB)))
    save(tmp_path / "a.png", Image.fromarray(RGB[:10]))
    with pytest.raises(InvalidInput, match="changed since"):
        read_image(info)
    save(tmp_path / "a.png", Image.new("1", (9000, 9000)))
    with pytest.raises(InvalidInput, match="9000x9000"):
        read_image(info)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        read_image(info)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_written_png_is_read_back_bit_for_bit(channels, tmp_path):
    image = np.dstack([RGB, ALPHA])[..., :channels]
    write_png(tmp_path / "out.part", image)
    assert np.array_equal(read(tmp_path / "out.part"), image)


def test_a_written_jpeg_drops_alpha_and_looks_the_same(tmp_path):
    write_jpeg(tmp_path / "out.jpg", np.dstack([RGB, ALPHA]))
    assert np.abs(read(tmp_path / "out.jpg").astype(int) - RGB).mean() < 4


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8)])
def test_only_uint8_rgb_or_rgba_can_be_written(image, tmp_path):
    with pytest.raises(InvalidParameter, match="the image is"):
        write_png(tmp_path / "a.png", image)
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_called_that_and_leaves_no_file(tmp_path):
    (tmp_path / "full.png").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"full\.png"):
        write_png(tmp_path / "full.png", RGB)
    assert not os.listdir(tmp_path)
