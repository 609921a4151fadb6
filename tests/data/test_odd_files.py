"""Odd, damaged and hostile files: each is the right value or one short line, in bounded time and memory, and nothing waits."""

import io
import json
import os
import socket
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from mdps_ref.data import images, masks, pixels
from mdps_ref.errors import InputError

SIDE = 12
FLAT = np.full((SIDE, SIDE), 51, np.uint8)
FLOATS, COUNTS, WIDE = (np.full((SIDE, SIDE), value, dtype) for value, dtype in ((0.2, "<f4"), (13107, "<u2"), (13107, "<i4")))


def tiff(pixels=FLAT, order="<", deflate=False, then=0, **changed):
    """A TIFF file of one strip. `changed` are tags by number, such as t262=0: a value, (type, value), (type, count, value) or None."""
    data = zlib.compress(pixels.tobytes()) if deflate else pixels.tobytes()
    tags = {256: SIDE, 257: SIDE, 258: 8 * pixels.itemsize, 259: 8 if deflate else 1, 262: 1, 273: 0, 277: 1, 278: SIDE, 279: len(data)}
    tags = {k: v for k, v in (tags | {int(key[1:]): value for key, value in changed.items()}).items() if v is not None}
    tags[273] = tags[273] or (4, 14 + 12 * len(tags))
    body = b""
    for tag, told in sorted(tags.items()):
        kind, count, value = (
            (1, 1, 0) if told is None else ((3, 1, told) if isinstance(told, int) else (told[0], 1, told[1]) if len(told) == 2 else told)
        )
        body += struct.pack(order + "HHI", tag, kind, count) + struct.pack(
            order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,))
        )
    start = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    return start + body + struct.pack(order + "I", then) + data


def png(width=SIDE, height=SIDE, depth=8, colour=0, rows=None, before=(), after=()):
    """A PNG file with chunks (kind, content) before and after its pixels."""
    rows = (b"\0" + b"\x33" * width) * height if rows is None else rows
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *before, (b"IDAT", zlib.compress(rows, 1)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


COLOURS = np.random.default_rng(1).integers(0, 65536, (SIDE, SIDE, 4), np.uint16)


def colour_tiff(samples=3, order="<", values=COLOURS, deflate=False, **changed):
    """A TIFF file of 16-bit colour; the bits of each sample stand behind its pixels."""
    content = values[:, :, :samples].astype(order + "u2")
    tags = {"t262": 2, "t277": samples, "t338": (3, 2) if samples == 4 else None} | changed
    end = len(tiff(content, order, deflate, t258=(4, samples, 0), **tags))
    return tiff(content, order, deflate, t258=(4, samples, end), **tags) + struct.pack(f"{order}{samples}I", *[16] * samples)


def colour_png(samples, colour, **more):
    """A PNG file of 16 bits a channel."""
    rows = b"".join(b"\0" + row.tobytes() for row in COLOURS[:, :, :samples].astype(">u2"))
    return png(depth=16, colour=colour, rows=rows, **more)


def saved(image, form, **options):
    """The bytes of an image file that Pillow writes."""
    out = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(out, form, **options)
    return out.getvalue()


def jpeg(**options):
    return saved(FLAT, "JPEG", quality=100, **options)


def rescanned(times, side=SIDE):
    """A progressive JPEG with its last scan repeated."""
    content = saved(np.full((side, side), 51, np.uint8), "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + times * scan + b"\xff\xd9"


def notes(count, kind=b"teSt", size=0):
    return [(kind, bytes(size))] * count


def run_length_bmp(width, height, data):
    """A BMP of 8 bits, run-length encoded, whose palette is grey."""
    palette = b"".join(bytes([v, v, v, 0]) for v in range(256))
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54 + 1024, 40, width, height, 1, 8, 1, 0, 0, 0, 256, 256) + palette + data


def sparse(start, size):
    """A file that begins like this and is much longer, without taking room on the disk."""

    def make(path):
        path.write_bytes(start)
        os.truncate(path, size)

    return make


def socket_at(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path must be short
        server.bind(path.name)


RGB, TWO = Image.new("RGB", (SIDE, SIDE), (51, 51, 51)), [Image.new("RGB", (SIDE, SIDE))]
TURN = Image.Exif()
TURN[0x0112] = 6
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
BOMB = zlib.compress(bytes(2**26), 9)
BIG = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)
BROKEN = {
    f"cut.{s}": saved(NOISE, f)[:900] for s, f in (("png", "PNG"), ("jpg", "JPEG"), ("bmp", "BMP"), ("tif", "TIFF"), ("webp", "WEBP"))
}
NO_IMAGE = {
    "gif.png": saved(FLAT, "GIF"),
    "jpeg2000.png": saved(FLAT, "JPEG2000"),
    "icon.png": saved(FLAT, "ICO"),
    "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "html.jpg": b"<!DOCTYPE html><script>alert(1)</script>",
    "pdf.png": b"%PDF-1.4\n1 0 obj<<>>endobj",
    "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file",
    "pixmap.png": b"P5 12 12 255\n" + bytes(144),
    "text.png": b"no image\n",
    "newline.png": b"\n",
    "empty.png": b"",
    "line\nbreak\x1b[2J.png": b"",
    "n" * 240 + ".png": b"",
}
RIGHT = {  # file: bytes or a maker, and the value between black 0 and white 1
    "zero is white, 1 bit.tif": (tiff(FLAT[:, :2] * 0, t258=1, t262=0), 1),
    "zero is white, 4 bits.tif": (tiff(np.full((SIDE, 6), 0xCC, np.uint8), t258=4, t262=0), 0.2),
    "zero is white, 8 bits.tif": (tiff(255 - FLAT, t262=0), 0.2),
    "zero is white, 8 bits, deflated.tif": (tiff(255 - FLAT, t262=0, deflate=True), 0.2),
    "zero is white, 8 bits, big-endian.tif": (tiff(255 - FLAT, ">", t262=0), 0.2),
    "zero is white, 16 bits.tif": (tiff(65535 - COUNTS, t262=0), 0.2),
    "zero is white, 16 bits, deflated.tif": (tiff(65535 - COUNTS, t262=0, deflate=True), 0.2),
    "zero is white, 10 bits in 16.tif": (tiff(np.full_like(COUNTS, 682), t262=0, t281=1023), 1 / 3),
    "zero is white, float.tif": (tiff(1 - FLOATS, t262=0, t339=3), 0.2),
    "10 bits in 16.tif": (tiff(np.full_like(COUNTS, 341), t281=1023), 1 / 3),
    "14 bits in 16, big-endian.tif": (tiff(np.full((SIDE, SIDE), 5461, ">u2"), ">", t281=16383), 1 / 3),
    "12 bits packed.tif": (tiff(np.full((SIDE, 18), 0x55, np.uint8), t258=12), 1 / 3),
    "the picture's own largest value.tif": (tiff(COUNTS, t281=40000), 0.2),
    "signed 16 bits.tif": (tiff(np.full((SIDE, SIDE), 6553.4, "<i2"), t339=2), 6553 / 32767),
    "unsigned 32 bits.tif": (tiff(WIDE.view("<u4")), 0.2),
    "32 bits.tif": (tiff(WIDE, t339=2), 0.2),
    "two directories in a ring.tif": (tiff(then=8), 0.2),
    "with a thumbnail.tif": (lambda p: p.write_bytes(tiff(then=(end := len(tiff()))) + tiff(t254=(4, 1))[8:]) and end, 0.2),
    "no such tag type.tif": (tiff(t700=(99, 10**9, 0)), 0.2),
    "10 bits of colour in 16.tif": (colour_tiff(values=np.full_like(COLOURS, 341), t281=1023), 1 / 3),
    "16-bit colour.png": (png(depth=16, colour=2, rows=(b"\0" + b"\x33" * 72) * SIDE), 0.2),
    "16-bit grey with alpha.png": (png(depth=16, colour=4, rows=(b"\0" + b"\x33" * 48) * SIDE), 0.2),
    "2 bits.png": (png(depth=2, rows=(b"\0" + b"\x55" * 3) * SIDE), 1 / 3),
    "a transparent grey.png": (png(before=[(b"tRNS", b"\0\x33")]), 0.2),
    "a transparent palette.png": (saved(Image.fromarray(FLAT).quantize(2), "PNG", transparency=b"\0\x80"), 0.2),
    "one frame.png": (
        png(before=[(b"acTL", struct.pack(">II", 1, 0)), (b"fcTL", struct.pack(">IIIIIHHBB", 0, 12, 12, 0, 0, 1, 1, 0, 0))]),
        0.2,
    ),
    "lossless.webp": (saved(RGB, "WEBP", lossless=True), 0.2),
    "clear.webp": (saved(Image.new("RGBA", (SIDE, SIDE), (51, 51, 51, 128)), "WEBP", lossless=True), 0.2),
    "photo of a phone.jpg": (saved(RGB, "MPO", save_all=True, append_images=TWO, quality=100), 0.2),
    "with a film behind it.jpg": (jpeg() + b"\0\2" + 300 * b"\xff\xda\0\2", 0.2),
    "broken notes.jpeg": (jpeg(exif=b"Exif\0\0nonsense"), 0.2),
    "grey.jfif": (jpeg(), 0.2),
    "grey.JPE": (jpeg(), 0.2),
    "as many scans as allowed.jpg": (rescanned(90), 0.2),
    "runs.bmp": (run_length_bmp(SIDE, SIDE, b"\x0c\x33\0\0" * SIDE + b"\0\1"), 0.2),
    "largest.png": (
        lambda p: p.write_bytes(png(8000, 8000, colour=2, rows=(b"\0" + b"\x33" * 24000) * 8000, before=[(b"eXIf", TURN.tobytes()[6:])])),
        0.2,
    ),
}
WRONG = {  # file: bytes or a maker, and a part of the message
    **{name: (content, "truncated") for name, content in BROKEN.items()},
    **{name: (content, "not a PNG, JPEG, BMP, TIFF or WebP image") for name, content in NO_IMAGE.items()},
    "not a number.tif": (tiff(FLOATS * np.nan, t339=3), "nan; expected values from 0 to 1"),
    "infinite.tif": (tiff(FLOATS + np.float32(np.inf), t339=3), "inf; expected 0 to 1"),
    "negative.tif": (tiff(-FLOATS, t339=3), "-0.2"),
    "too bright.tif": (tiff(FLOATS + 1, t339=3), "1.2"),
    "negative integers.tif": (tiff(-WIDE, t339=2), "-13107"),
    "too large integers.tif": (tiff(WIDE * 6, t339=2), "78642; expected 0 to 65535"),
    "above its own white.tif": (tiff(COUNTS, t281=1023), "13107; expected 0 to 1023"),
    "signed 8 bits.tif": (tiff(t339=2), "signed 8-bit"),
    "neither black nor white.tif": (tiff(t262=None), "whether its zero is black or white"),
    "n" * 240 + ".tif": (tiff(FLOATS.astype("<f8"), t339=3), "bits 64"),
    "64-bit float.tif": (tiff(FLOATS.astype("<f8"), t339=3), "bits 64, photometric 1, samples 1, sample format 3"),
    "complex.tif": (tiff(FLOATS.astype("<c8"), t339=6), "bits 64"),
    "10 bits packed.tif": (tiff(t258=10), "bits 10"),
    "zero is white, 16 bits, big-endian.tif": (tiff(COUNTS.astype(">u2"), ">", t262=0), "bits 16, photometric 0"),
    "lab.tif": (lambda p: Image.new("LAB", (SIDE, SIDE)).save(p), "LAB"),
    "16-bit colour in planes.tif": (colour_tiff(t284=2), "separate planes"),
    "16-bit CMYK.tif": (colour_tiff(4, t262=5, t338=None), "16-bit colour of the kind CMYK"),
    "16-bit colour that alpha was multiplied with.tif": (colour_tiff(4, t338=1), "16-bit colour of the kind RGBa"),
    "16-bit colour above its own white.tif": (colour_tiff(t281=1023), "expected 0 to 1023"),
    "16-bit colour, one transparent.png": (colour_png(3, 2, before=[(b"tRNS", bytes(6))]), "means transparent"),
    "16-bit grey, one transparent.png": (colour_png(1, 0, before=[(b"tRNS", bytes(2))]), "means transparent"),
    "large 16-bit colour.png": (png(6000, 6000, depth=16, colour=2, rows=b""), "36000000 pixels, more than 32000000"),
    "two pages.tif": (tiff(then=len(tiff())) + tiff()[8:], "holds 2 pages"),
    "thumbnail first.tif": (lambda p: p.write_bytes(tiff(t254=(4, 1), then=len(tiff(t254=(4, 1)))) + tiff()[8:]), "holds 2 pages"),
    "two frames.png": (saved(RGB, "PNG", save_all=True, append_images=TWO), "holds 2 frames"),
    "two frames.webp": (saved(RGB, "WEBP", save_all=True, append_images=TWO), "holds 2 frames"),
    "many pages.tif": (tiff()[:8] + b"".join(tiff(then=8 + i)[8:122] for i in range(114, 114 * 1500, 114)), "holds 1000 pages"),
    "many tags.tif": (lambda p: p.write_bytes(tiff()[:8] + b"\xff\xff" + bytes(12 * 65535)), "65535 tags"),
    "many tags, big.tif": (BIG + struct.pack("<Q", 10**12) + bytes(4000), "1000000000000 tags"),
    "many strips.tif": (tiff(t273=(4, 10**6, 8)), "1000000 strips"),
    "many tiles.tif": (tiff(t324=(4, 2**17, 8)), "131072 strips or tiles"),
    "large tiles.tif": (tiff(t322=(4, 2**30), t323=(4, 2**30)), "tiles of 1073741824"),
    "large tags.tif": (tiff(t700=(7, 2**30, 0)), "bytes of TIFF tags"),
    "large notes' directory.tif": (tiff(t34665=(4, 1)), "10825 tags"),
    "lzma.tif": (tiff(t259=34925), "compression 34925"),
    "no width.tif": (tiff(t256=0), "truncated"),
    "no such place.tif": (tiff(t273=(4, 2**31)), "truncated"),
    "beyond its end.tif": (tiff()[:4] + struct.pack("<I", 2**32 - 1), "truncated"),
    "deflate bomb.tif": (tiff(t256=(4, 60000), t257=(4, 60000), deflate=True), "more than 64000000"),
    "no width.png": (png(0, 12, rows=b""), "truncated"),
    "huge.png": (png(2**31 - 1, 2**31 - 1, rows=b""), "more than 64000000"),
    "just too large.png": (png(9400, 9400, rows=b""), "88360000 pixels, more than 64000000"),
    "too large.webp": (
        lambda p: p.write_bytes(saved(Image.new("L", (6000, 6000)), "WEBP", method=0)),
        "36000000 pixels, more than 32000000",
    ),
    "short rows.png": (png(rows=b"\0" * 9), "truncated"),
    "wrong sum.png": (png().replace(b"IDAT", b"IDAT\0")[:70], "truncated"),
    "a wrong sum in a note.png": (png(before=[(b"tEXt", b"a\0b")]).replace(b"a\0b", b"a\0c"), "damaged"),
    "many notes.png": (png(before=notes(10**5)), "too many chunks"),
    "many empty pixel chunks.png": (png(before=notes(300_000, b"IDAT")), "too many chunks"),
    "a note of two gigabytes.png": (sparse(png()[:33] + struct.pack(">I", 2**31 - 1) + b"teSt", 2**31 + 100), "note of 2147483647 bytes"),
    "a text bomb.png": (png(before=[(b"zTXt", b"a\0\0" + BOMB)] * 40), "truncated"),
    "a profile bomb.png": (png(before=[(b"iCCP", b"a\0\0" + BOMB)]), "truncated"),
    "many scans.jpg": (rescanned(2000, 512), "more than 100 scans"),
    "scans of many pixels.jpg": (lambda p: p.write_bytes(rescanned(90, 4000)), "scans, which takes too long"),
    "many segments.jpg": (jpeg()[:2] + 5000 * b"\xff\xe5\0\x02" + jpeg()[2:], "4096 segments"),
    "large.jpg": (sparse(jpeg(), 2**30), "1073741824 bytes"),
    "large.webp": (sparse(saved(RGB, "WEBP"), 2**30), "1073741824 bytes"),
    "no scan.jpg": (jpeg()[: jpeg().index(b"\xff\xda")], "truncated"),
    "runs that jump.bmp": (run_length_bmp(60_000_000, 1, b"\0\2\xff\xff\0\1"), "run-length"),
    "short runs.bmp": (sparse(run_length_bmp(8000, 8000, b""), 2**23), "run-length"),
    "folder.png": (lambda p: p.mkdir(), "is a directory"),
    "loop.png": (lambda p: p.symlink_to(p), "symbolic links"),
    "nowhere.png": (lambda p: p.symlink_to(p.with_name("gone")), "no such file"),
    "fifo.png": (os.mkfifo, "FIFO, socket or device"),
    "device.png": (lambda p: p.symlink_to("/dev/zero"), "FIFO, socket or device"),
    "socket.png": (socket_at, "FIFO, socket or device"),
    "absent.png": (lambda p: None, "no such file"),
}
READER = """
import json, pathlib, sys, time, warnings
from mdps_ref.data import images, masks, pixels
from mdps_ref.errors import InputError
warnings.simplefilter("error")
for path in json.load(sys.stdin):
    start, size = time.process_time(), None
    try:
        size = pixels.image_size(path)
    except InputError:
        pass
    try:
        loaded = images.load_image(path, 8)
        told = {"low": float(loaded.min()), "high": float(loaded.max()), "size": size}
    except InputError as error:
        told = {"error": str(error)}
    print(json.dumps(told | {"seconds": time.process_time() - start}), flush=True)
status = pathlib.Path("/proc/self/status")
print(json.dumps(int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20 if status.exists() else 0))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a fresh process makes of every file: values or a message, and its seconds of CPU; and the process's peak memory in GiB."""
    folder, here = tmp_path_factory.mktemp("odd"), os.getcwd()
    for name, (content, _) in (RIGHT | WRONG).items():
        (folder / name).write_bytes(content) if isinstance(content, bytes) else content(folder / name)
    os.chdir(here)
    names = [*RIGHT, *WRONG]
    paths = json.dumps([str(folder / name) for name in names])
    done = subprocess.run([sys.executable, "-c", READER], input=paths, capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return dict(zip([*names, "peak"], map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_value(answers, name):
    answer = answers[name]
    assert "error" not in answer, answer
    np.testing.assert_allclose([answer["low"], answer["high"]], 2 * RIGHT[name][1] - 1, atol=1e-5 if ".j" not in name else 0.02)
    assert answer["size"] in ([SIDE, SIDE], [8000, 8000]) and answer["seconds"] < 5


@pytest.mark.parametrize("name", WRONG)
def test_one_short_line(answers, name):
    message = answers[name].get("error", "no error")
    assert WRONG[name][1] in message and len(message) <= 300 and message.isprintable(), message
    assert repr(name)[1:-1][-40:] in message.replace("\\x1b", "\\x1b") and answers[name]["seconds"] < 5


def test_the_peak_of_all_is_below_a_gibibyte(answers):
    assert answers["peak"] < 1
    assert len(answers) > 100


DEEP = {  # content, depth, samples that are colour, whether there is alpha
    "rgb.png": (colour_png(3, 2), "16-bit colour", 3, False),
    "rgba.png": (colour_png(4, 6), "16-bit colour", 3, True),
    "grey with alpha.png": (colour_png(2, 4), "16-bit grey", 1, True),
    "rgb.tif": (colour_tiff(), "16-bit colour", 3, False),
    "rgba.tif": (colour_tiff(4), "16-bit colour", 3, True),
    "rgb and another sample.tif": (colour_tiff(4, t338=(3, 0)), "16-bit colour", 3, False),
    "rgb, big-endian.tif": (colour_tiff(order=">"), "16-bit colour", 3, False),
    "rgb, deflated.tif": (colour_tiff(deflate=True), "16-bit colour", 3, False),
    "rgba, deflated.tif": (colour_tiff(4, deflate=True), "16-bit colour", 3, True),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", DEEP)
def test_every_bit_of_16_bit_colour_is_read(name, turned, tmp_path, monkeypatch):
    content, depth, samples, has_alpha = DEEP[name]
    path = tmp_path / name
    path.write_bytes(content)
    monkeypatch.setattr(pixels, "_orientation", lambda image: 6 if turned else 1)
    picture, expected = pixels.decode(path), np.rot90(COLOURS, -turned)
    np.testing.assert_array_equal(np.stack([plane() for plane in picture.planes], axis=-1), expected[:, :, :samples])
    loaded = images.load_image(path, SIDE)[:, :, :samples]
    np.testing.assert_allclose(loaded, expected[:, :, :samples] / 65535 * 2 - 1, atol=1e-6)
    assert pixels.image_depth(path) == depth and (picture.alpha is not None) == has_alpha
    if has_alpha:
        np.testing.assert_array_equal(picture.alpha, expected[:, :, samples] >> 8)


DEPTHS = {
    "1.png": (png(depth=1, rows=(b"\0" + b"\x55" * 2) * SIDE), "1-bit grey"),
    "2.png": (png(depth=2, rows=(b"\0" + b"\x55" * 3) * SIDE), "2-bit grey"),
    "8.png": (png(), "8-bit grey"),
    "8.webp": (saved(RGB, "WEBP"), "8-bit colour"),
    "8.jpg": (jpeg(), "8-bit grey"),
    "8.bmp": (saved(RGB, "BMP"), "8-bit colour"),
    "palette.png": (saved(Image.fromarray(FLAT).quantize(2), "PNG", bits=8), "8-bit colour"),
    "16.png": (colour_png(1, 0), "16-bit grey"),
    "12.tif": (tiff(np.full((SIDE, 18), 0x55, np.uint8), t258=12), "12-bit grey"),
    "16.tif": (tiff(COUNTS), "16-bit grey"),
    "32.tif": (tiff(WIDE, t339=2), "32-bit grey"),
    "float.tif": (tiff(FLOATS, t339=3), "32-bit float grey"),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_the_depth_is_told_as_the_file_has_it(name, tmp_path):
    (tmp_path / name).write_bytes(DEPTHS[name][0])
    assert pixels.image_depth(tmp_path / name) == DEPTHS[name][1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path, fails_with):
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "secret.png").chmod(0)
    with fails_with("secret.png", "permission denied"):
        images.load_image(tmp_path / "secret.png", 8)


def test_pillow_without_webp(tmp_path, monkeypatch, fails_with):
    (tmp_path / "photo.webp").write_bytes(saved(RGB, "WEBP"))
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    with fails_with("photo.webp", "built without WebP", "PNG"):
        images.load_image(tmp_path / "photo.webp", 8)


SOUND = [
    png(before=[(b"eXIf", TURN.tobytes()[6:]), (b"tEXt", b"a\0b")]),
    saved(NOISE[:16, :16], "PNG"),
    saved(NOISE[:16, :16], "JPEG", exif=TURN),
    saved(NOISE[:16, :16], "JPEG", progressive=True),
    saved(RGB, "MPO", save_all=True, append_images=TWO),
    saved(NOISE[:16, :16], "BMP"),
    run_length_bmp(SIDE, SIDE, b"\x0c\x33\0\0" * SIDE + b"\0\1"),
    tiff(65535 - COUNTS, t262=0, t281=16383),
    tiff(COUNTS, deflate=True),
    tiff(FLOATS, t339=3),
    saved(NOISE[:16, :16], "TIFF", compression="tiff_lzw"),
    saved(NOISE[:16, :16], "WEBP"),
    saved(RGB, "WEBP", lossless=True, exif=TURN),
]
SPOTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6)


@pytest.mark.parametrize("content", SOUND, ids=range(len(SOUND)))
def test_any_damaged_file_is_an_image_or_one_line(request, tmp_path, content):
    path = tmp_path / "damaged.png"

    @settings(deadline=None, max_examples=request.config.getoption("--fuzz") // 5)
    @given(spots=SPOTS, kept=st.floats(0.3, 1), head=st.booleans(), more=st.binary(max_size=20))
    def check(spots, kept, head, more):
        damaged = bytearray(content)
        for place, value in spots:
            damaged[place % min(len(content), 160 if head else 10**6)] = value
        path.write_bytes(damaged[: int(kept * len(damaged)) if kept < 0.8 else len(damaged)] + more)
        for read in (lambda: images.load_image(path, 8), lambda: masks.load_mask(path, 8, pixels.image_size(path))):
            try:
                loaded = read()
            except InputError as error:
                assert len(str(error)) <= 300 and str(error).isprintable()
            else:
                assert loaded.shape[:2] == (8, 8) and (loaded.dtype == bool or -1 <= loaded.min() <= loaded.max() <= 1)

    check()


def test_a_tiff_of_many_full_directories_is_refused_early(tmp_path, fails_with):
    """Each directory is allowed, and so is their number."""
    count, content = 4096, b"II*\0" + struct.pack("<I", 8)
    entries = b"".join(struct.pack("<HHI4x", 1000 + tag, 1, 1) for tag in range(count))
    for _ in range(17):
        content += struct.pack("<H", count) + entries + struct.pack("<I", len(content) + 2 + len(entries) + 4)
    (tmp_path / "many.tif").write_bytes(content)
    with fails_with("many.tif", "TIFF tags"):
        images.load_image(tmp_path / "many.tif", SIDE)


def test_a_damaged_file_of_16_bit_colour_is_named_once(tmp_path):
    path = tmp_path / "cut.png"
    rows = b"".join(b"\0" + bytes(6 * 64) for _ in range(64))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)[:20]), (b"IEND", b""))
    framed = (struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    with pytest.raises(InputError) as refused:
        images.load_image(path, SIDE)
    assert str(refused.value).count("cut.png") == 1
