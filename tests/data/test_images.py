"""Images read from tiny files of every kind, against values in closed form."""

import struct
import zlib

import numpy as np
import pytest
from helpers import cut, write_image
from PIL import Image, ImageFile

from mdps_ref.data import images, masks, pixels


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


FLAT = {
    "1-bit": (Image.new("1", (12, 9), 1), "png", [1, 1, 1]),
    "grey": (Image.new("L", (12, 9), 51), "png", [0.2, 0.2, 0.2]),
    "grey bmp": (Image.new("L", (12, 9), 51), "bmp", [0.2, 0.2, 0.2]),
    "grey + alpha": (Image.new("LA", (12, 9), (51, 0)), "png", [0.2, 0.2, 0.2]),
    "palette": (Image.new("RGB", (12, 9), (51, 0, 255)).quantize(4), "png", [0.2, 0, 1]),
    "RGB": (Image.new("RGB", (12, 9), (51, 0, 255)), "png", [0.2, 0, 1]),
    "RGB tiff": (Image.new("RGB", (12, 9), (51, 0, 255)), "tiff", [0.2, 0, 1]),
    "RGBA": (Image.new("RGBA", (12, 9), (51, 0, 255, 0)), "png", [0.2, 0, 1]),
    "CMYK": (Image.new("CMYK", (12, 9), (204, 255, 0, 0)), "tif", [0.2, 0, 1]),
    "YCbCr": (Image.new("YCbCr", (12, 9), (51, 128, 128)), "tif", [0.2, 0.2, 0.2]),
    "16-bit png": (Image.fromarray(np.full((9, 12), 13107, np.uint16)), "png", [0.2, 0.2, 0.2]),
    "16-bit tiff": (Image.fromarray(np.full((9, 12), 13107, np.uint16)), "tif", [0.2, 0.2, 0.2]),
    "16-bit big-endian": (Image.fromarray(np.full((9, 12), 13107, ">u2")), "tif", [0.2, 0.2, 0.2]),
    "32-bit integers": (Image.fromarray(np.full((9, 12), 13107, np.int32)), "tif", [0.2, 0.2, 0.2]),
    "float": (Image.fromarray(np.full((9, 12), 0.2, np.float32)), "tif", [0.2, 0.2, 0.2]),
}


@pytest.mark.parametrize("image, suffix, unit", FLAT.values(), ids=FLAT)
def test_a_constant_image_of_value_v_is_2v_minus_1(tmp_path, image, suffix, unit):
    path = write_image(tmp_path / f"flat.{suffix}", image)
    loaded = images.load_image(path, 16)
    assert loaded.shape == (16, 16, 3) and loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, np.broadcast_to(2 * np.array(unit) - 1, loaded.shape), atol=2e-6)
    assert pixels.image_size(path) == (12, 9)


def test_the_files_of_these_tests_have_the_modes_they_are_named_for(tmp_path):
    modes = {}
    for name, (image, suffix, _) in FLAT.items():
        with Image.open(write_image(tmp_path / f"{len(modes)}.{suffix}", image)) as written:
            modes[name] = written.mode
    assert set(modes.values()) == {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "I", "F"}
    assert set(modes.values()) <= set(pixels.MODES)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_step_of_sixteen_bits_survives(tmp_path, suffix, dtype):
    low, high = (write_image(tmp_path / f"{v}.{suffix}", Image.fromarray(np.full((8, 8), v, dtype))) for v in (30000, 30001))
    step = images.load_image(high, 8) - images.load_image(low, 8)
    np.testing.assert_allclose(step, 2 / 65535, rtol=0.01)


def test_a_palette_with_transparent_colours_keeps_its_colours(tmp_path):
    pixels = np.kron(np.array([[[51, 0, 255], [255, 0, 0]], [[0, 255, 0], [0, 0, 0]]], np.uint8), np.ones((4, 4, 1), np.uint8))
    path = write_image(tmp_path / "p.png", Image.fromarray(pixels).quantize(4), transparency=b"\x00\x40\x80\xff")
    np.testing.assert_allclose(images.load_image(path, 8), pixels / 255 * 2 - 1, atol=1e-6)


def test_an_image_of_the_right_size_is_unchanged_even_a_colour_marked_as_transparent(tmp_path):
    pixels = noise(8, 8, 3)
    path = write_image(tmp_path / "t.png", pixels, transparency=tuple(pixels[3, 3].tolist()))
    np.testing.assert_allclose(images.load_image(path, 8), pixels / 255 * 2 - 1, atol=1e-6)


def test_jpeg_is_read_and_close(tmp_path):
    loaded = images.load_image(write_image(tmp_path / "c.jpg", Image.new("RGB", (16, 16), (51, 0, 255)), quality=100), 16)
    np.testing.assert_allclose(loaded[0, 0], [-0.6, -1, 1], atol=0.03)


def test_the_extremes_are_exactly_minus_1_and_1(tmp_path):
    for white, name in ((255, "w8.png"), (65535, "w16.png")):
        pixels = np.full((8, 8), white, np.uint8 if white == 255 else np.uint16)
        assert (images.load_image(write_image(tmp_path / name, pixels), 8) == 1).all()
        assert (images.load_image(write_image(tmp_path / name, 0 * pixels), 8) == -1).all()


def test_a_checkerboard_made_smaller_is_its_mean(tmp_path):
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    loaded = images.load_image(write_image(tmp_path / "board.png", board), 16)
    np.testing.assert_allclose(loaded[2:-2, 2:-2], 0, atol=1e-6)  # without antialiasing: every fourth pixel, -1 or 1


def test_what_the_filter_overshoots_is_clipped(tmp_path):
    edge = np.zeros((8, 8), np.uint8)
    edge[:, 4:] = 255
    loaded = images.load_image(write_image(tmp_path / "edge.png", edge), 64)
    assert loaded.min() == -1 and loaded.max() == 1


def test_the_aspect_ratio_gives_way_and_rows_stay_rows(tmp_path):
    pixels = np.zeros((8, 40, 3), np.uint8)
    pixels[:4, :, 0], pixels[:, 20:, 1] = 255, 255
    loaded = images.load_image(write_image(tmp_path / "wide.png", pixels), 32)
    red_above, green_right = loaded[4:12, :, 0].mean(), loaded[:, 20:28, 1].mean()
    assert red_above > 0.95 and green_right > 0.95 and loaded[20:, :, 0].max() < -0.9


def test_smallest_side(tmp_path, fails_with):
    images.load_image(write_image(tmp_path / "ok.png", noise(8, 9)), 8)
    with fails_with("thin.png", "20 x 7", "8 x 8"):
        images.load_image(write_image(tmp_path / "thin.png", noise(7, 20)), 8)


def test_a_tiff_with_a_broken_side_note_is_read_without_a_warning(tmp_path):
    pixels = noise(16, 16, 3)
    path = write_image(tmp_path / "n.tif", pixels)
    rows_per_strip, content = struct.pack("<HHI", 278, 4, 1), path.read_bytes()
    assert content.count(rows_per_strip) == 1
    path.write_bytes(content.replace(rows_per_strip, struct.pack("<HHI", 278, 4, 9999)))
    with pytest.warns(UserWarning, match="Tag data larger than file"), Image.open(path) as image:
        image.load()
    np.testing.assert_allclose(images.load_image(path, 16), pixels / 255 * 2 - 1, atol=1e-6)


def test_the_central_pixels():
    numbers = np.arange(2 * 6 * 8).reshape(2, 6, 8)
    np.testing.assert_array_equal(images.centre_crop(numbers, 4), numbers[:, 1:5, 2:6])
    np.testing.assert_array_equal(images.centre_crop(numbers[..., None], 4)[..., 0], numbers[:, 1:5, 2:6])
    np.testing.assert_array_equal(images.centre_crop(numbers, 5), numbers[:, 0:5, 1:6])
    np.testing.assert_array_equal(images.centre_crop(numbers[:, :, 1:7], 6), numbers[:, :, 1:7])
    frame = np.indices((256, 256))
    assert [(axis.min(), axis.max()) for axis in images.centre_crop(frame, 224)] == [(16, 239), (16, 239)]


def test_a_crop_that_does_not_fit():
    with pytest.raises(ValueError, match="6 x 8 pixels have no central 7 x 7"):
        images.centre_crop(np.zeros((2, 6, 8)), 7)


def test_image_size_reads_the_header_alone(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image))
    path = cut(write_image(tmp_path / "h.png", noise(64, 32, 3)), share=0.5)
    assert pixels.image_size(path) == (32, 64) and not decoded


# How a picture lies in the square


BLOCK = np.zeros((48, 96), np.uint8)
BLOCK[8:20, 60:76] = 255


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_and_their_sizes_are_as_a_viewer_shows_them(tmp_path, suffix, orientation):
    turns = {0: lambda a: a, 1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1]}
    turns |= {5: lambda a: a.T, 6: lambda a: a.T[::-1], 7: lambda a: a[::-1, ::-1].T, 8: lambda a: a.T[:, ::-1]}
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write_image(tmp_path / f"turned.{suffix}", np.ascontiguousarray(turns[orientation](BLOCK)), exif=exif)
    assert pixels.image_size(path) == (96, 48)
    seen = images.map_at_image_size(images.load_image(path, 96)[:, :, 0], (96, 48))
    np.testing.assert_array_equal(seen[2::4, 2::4] > 0, BLOCK[2::4, 2::4] > 0)


def test_an_orientation_after_the_pixels_counts_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = write_image(tmp_path / "turned.png", BLOCK, exif=exif).read_bytes()
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4])
    note, rest = content[start : start + length], content[:start] + content[start + length :]
    (tmp_path / "turned.png").write_bytes(rest[:-12] + note + rest[-12:])
    assert pixels.image_size(tmp_path / "turned.png") == (48, 96)
    assert images.load_image(tmp_path / "turned.png", 48)[34, 32, 0] == 1


@pytest.mark.parametrize("fit", images.FITS)
@pytest.mark.parametrize("size", [32, 33, 48])
@pytest.mark.parametrize("shape", [(96, 40), (40, 97), (64, 64), (12, 200)])
def test_a_bright_block_comes_back_to_where_it_lay(tmp_path, fit, size, shape):
    block = np.zeros(shape, np.uint8)
    box = tuple(slice(side // 4, side // 4 + side // 2) for side in shape)
    block[box] = 255
    path = write_image(tmp_path / "b.png", block)
    loaded = images.load_image(path, size, fit=fit)[:, :, 0]
    back = images.map_at_image_size((loaded + 1) / 2, shape[::-1], fit)
    assert back.shape == shape and back.dtype == np.float32
    truth = masks.load_mask(path, size, shape[::-1], fit=fit)
    left, top, right, bottom = images.fitted_box(shape[::-1], size, fit)
    differs = truth[top:bottom, left:right] != (loaded[top:bottom, left:right] > 0)
    assert differs.sum() <= 4 * size  # at most at the block's edges
    pixel = [max(shape) / size if fit == "letterbox" else side / size for side in shape]
    for axis in (0, 1):
        line = back.max(axis=1 - axis)
        above = np.flatnonzero(line > line.max() / 2)
        assert abs(above[0] - box[axis].start) <= 0.5 * pixel[axis] + 0.5 and abs(above[-1] + 1 - box[axis].stop) <= 0.5 * pixel[axis] + 0.5


def test_letterboxes_repeat_their_edges_and_keep_the_aspect_ratio(tmp_path, fails_with):
    wide = np.repeat(np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 16, 0), 32, 1)
    loaded = images.load_image(write_image(tmp_path / "w.png", wide), 32, fit="letterbox")[:, :, 0]
    assert (loaded[:8] == loaded[8]).all() and (loaded[24:] == loaded[23]).all()
    assert loaded[0, 4] == -1 and loaded[0, 28] == 1 and loaded[31, 4] == 1
    with fails_with("'crop'", "stretch, letterbox"):
        images.load_image(tmp_path / "w.png", 32, fit="crop")


# Depth


@pytest.mark.parametrize(
    ("largest", "white"), [(1023, 1023), (256, 1023), (1024, 4095), (9000, 16383), (16384, None), (255, None), (0, None)]
)
def test_the_depth_of_a_set_is_that_of_its_largest_value(tmp_path, largest, white):
    grey = [np.full((8, 8), value, np.uint16) for value in (largest // 2, largest)]
    paths = [write_image(tmp_path / f"{i}.{s}", p) for i, (s, p) in enumerate(zip(("png", "tif"), grey, strict=True))]
    paths += [write_image(tmp_path / "8.png", 200), write_image(tmp_path / "told.tif", grey[0] + 30000, tiffinfo={281: 32767})]
    (tmp_path / "broken.png").write_bytes(b"")
    assert pixels.find_white([*paths, tmp_path / "broken.png"]) == white
    expected = 2 * largest / (white or 65535) - 1
    np.testing.assert_allclose(images.load_image(paths[1], 8, white=white), expected, atol=1e-6)
    for path, unit in ((paths[2], 200 / 255), (write_image(tmp_path / "32.tif", np.full((8, 8), 999, np.int32)), 999 / 65535)):
        np.testing.assert_allclose(images.load_image(path, 8, white=white), 2 * unit - 1, atol=1e-6)


def test_the_depth_of_a_set_of_16_bit_colour(tmp_path):
    rows = b"".join(b"\0" + np.full(24, 1000 + row, ">u2").tobytes() for row in range(8))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    (tmp_path / "colour.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert pixels.find_white([tmp_path / "colour.png"]) == 1023
    np.testing.assert_allclose(images.load_image(tmp_path / "colour.png", 8, white=1023)[7], 2 * 1007 / 1023 - 1, atol=1e-6)


def test_a_value_above_the_white_of_its_set(tmp_path, fails_with):
    path = write_image(tmp_path / "p.png", np.full((8, 8), 2000, np.uint16))
    with fails_with(path, "2000", "0 to 1023"):
        images.load_image(path, 8, white=1023)
