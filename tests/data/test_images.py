"""Images and masks read from tiny files of every kind, against values in closed form."""

import struct

import numpy as np
import pytest
from helpers import cut, write_image
from PIL import Image

from mdps_ref.data import folders, images


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
    assert images.image_size(path) == (12, 9)


def test_the_files_of_these_tests_have_the_modes_they_are_named_for(tmp_path):
    modes = {}
    for name, (image, suffix, _) in FLAT.items():
        with Image.open(write_image(tmp_path / f"{len(modes)}.{suffix}", image)) as written:
            modes[name] = written.mode
    assert set(modes.values()) == {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "I", "F"}
    assert set(modes.values()) <= set(images.MODES)


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


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -0.25, -1, 65536])
def test_floats_beyond_1_and_integers_beyond_sixteen_bits(tmp_path, value, fails_with):
    pixels, allowed = (np.zeros((8, 8), np.float32), "0 to 1") if isinstance(value, float) else (np.full((8, 8), 7, np.int32), "0 to 65535")
    pixels[3, 3] = value
    with fails_with("v.tif", value, allowed):
        images.load_image(write_image(tmp_path / "v.tif", pixels), 8)


def test_a_mode_without_a_meaning_here(tmp_path, fails_with):
    with fails_with("lab.tif", "LAB", "grey or RGB"):
        images.load_image(write_image(tmp_path / "lab.tif", Image.new("LAB", (8, 8))), 8)


def test_load_images_is_load_image_for_each_item(tmp_path):
    items = [folders.Item(write_image(tmp_path / f"{i}.png", noise(9, 9 + i)), f"test/good/{i}", "good", None) for i in range(3)]
    seen = []
    loaded = images.load_images(items, 16, progress=lambda items: (seen.append(item) or item for item in items))
    assert loaded.shape == (3, 16, 16, 3) and loaded.dtype == np.float32 and seen == items
    np.testing.assert_array_equal(loaded, [images.load_image(item.path, 16) for item in items])
    assert images.load_images((), 16).shape == (0, 16, 16, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_truncated_file(tmp_path, suffix, fails_with):
    path = cut(write_image(tmp_path / f"t.{suffix}", noise(32, 32, 3)))
    with fails_with(path, "truncated", "replace or remove"):
        images.load_image(path, 8)
    with fails_with(path, "truncated"):
        images.load_mask(path, 8, (32, 32))


def test_a_tiff_with_a_broken_side_note_is_read_without_a_warning(tmp_path):
    pixels = noise(16, 16, 3)
    path = write_image(tmp_path / "n.tif", pixels)
    rows_per_strip, content = struct.pack("<HHI", 278, 4, 1), path.read_bytes()
    assert content.count(rows_per_strip) == 1
    path.write_bytes(content.replace(rows_per_strip, struct.pack("<HHI", 278, 4, 9999)))
    with pytest.warns(UserWarning, match="Tag data larger than file"), Image.open(path) as image:
        image.load()
    np.testing.assert_allclose(images.load_image(path, 16), pixels / 255 * 2 - 1, atol=1e-6)


CUT_IN_ITS_HEADER = ("tif", lambda content: content[:48])
A_BROKEN_CHUNK = ("png", lambda content: content[:35] + b"\0" + content[36:])  # in the length of the pixels: Pillow raises a SyntaxError


@pytest.mark.parametrize("suffix, damage", [CUT_IN_ITS_HEADER, A_BROKEN_CHUNK])
def test_a_file_damaged_at_its_start(tmp_path, suffix, damage, fails_with):
    path = write_image(tmp_path / f"d.{suffix}", noise(32, 32, 3))
    path.write_bytes(damage(path.read_bytes()))
    with fails_with(path, "could not be read"):
        images.load_image(path, 8)


@pytest.mark.parametrize("content", [b"", b"\n", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
@pytest.mark.parametrize("read", [images.image_size, lambda path: images.load_image(path, 8)], ids=["size", "image"])
def test_no_image(tmp_path, read, content, fails_with):
    path = tmp_path / "n.png"
    path.write_bytes(content)
    with fails_with(path, "not a PNG, JPEG, BMP or TIFF", "replace or remove"):
        read(path)


def test_another_format_a_missing_file_and_a_folder(tmp_path, fails_with):
    path = write_image(tmp_path / "gif.png", noise(8, 8), format="GIF")
    with fails_with(path, "not a PNG"):
        images.load_image(path, 8)
    with fails_with(tmp_path / "gone.png", "no such file"):
        images.load_image(tmp_path / "gone.png", 8)
    with fails_with(tmp_path, "is a directory"):
        images.load_image(tmp_path, 8)


@pytest.mark.parametrize("limit", [900, 300], ids=["Pillow warns", "Pillow refuses"])
def test_a_decompression_bomb(tmp_path, monkeypatch, limit, fails_with):
    path = write_image(tmp_path / "bomb.png", noise(32, 32))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with fails_with(path, f"more than {limit} pixels", "smaller"):
        images.load_image(path, 8)


# Masks


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_mask_modes(tmp_path, mode):
    expected = np.zeros((8, 8), bool)
    expected[2:4, 3:7] = True
    image = Image.fromarray(expected.astype(np.uint8) * 255).convert("RGB").convert(mode)
    np.testing.assert_array_equal(images.load_mask(write_image(tmp_path / "m.png", image), 8, (8, 8)), expected)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_mask_is_where_any_channel_is_above_zero(tmp_path, channel):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[1, 2, channel], pixels[5, 6, channel] = 1, 255
    mask = images.load_mask(write_image(tmp_path / "m.png", pixels), 8, (8, 8))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, pixels.any(axis=-1))


def test_masks_are_resized_to_nearest_neighbours(tmp_path):
    path = write_image(tmp_path / "m.png", np.eye(8, dtype=np.uint8) * 255)
    np.testing.assert_array_equal(images.load_mask(path, 24, (8, 8)), np.kron(np.eye(8), np.ones((3, 3))) > 0)
    pixels = noise(32, 32) // 128
    mask = images.load_mask(write_image(tmp_path / "n.png", pixels), 8, (32, 32))
    np.testing.assert_array_equal(mask, pixels[2::4, 2::4] > 0)  # the pixel at each new pixel's centre, whatever lies around it


# by hand: 4 pixels made 8, a new pixel's centre counts where it is less than one old pixel from the anomalous one's; 4 made 2,
# where it is less than two (the filter grows with the reduction), so the pixel in the middle reaches all four
def triangle(side, size):
    """Weights (size, side) of a bilinear filter that widens with the reduction, by loops."""
    scale = side / size
    reach = max(scale, 1)
    weights = np.zeros((size, side))
    for new in range(size):
        for old in range(side):
            weights[new, old] = max(0, 1 - abs((old + 0.5) - (new + 0.5) * scale) / reach)
        weights[new] /= weights[new].sum()
    return weights


@pytest.mark.parametrize(("side", "size"), [(40, 16), (16, 40), (16, 16), (37, 8)])
def test_a_bilinear_mask_is_where_the_resized_8_bit_values_are_above_zero(tmp_path, side, size):
    pixels = noise(side, side) * (np.random.default_rng(1).random((side, side)) < 0.02)
    weights = triangle(side, size)
    resized = np.rint(weights @ np.rint(pixels @ weights.T))  # columns first, rounded to 8 bits after either
    mask = images.load_mask(write_image(tmp_path / "m.png", pixels), size, (side, side), images.bilinear_mask)
    assert 0 < mask.mean() < 0.9
    np.testing.assert_array_equal(mask, resized > 0)


def test_sixteen_bits_above_zero_stay_above_zero_under_either_rule(tmp_path):
    path = write_image(tmp_path / "m.png", np.eye(8, dtype=np.uint16))
    for shrink in (images.bilinear_mask, images.nearest_mask):
        np.testing.assert_array_equal(images.load_mask(path, 8, (8, 8), shrink), np.eye(8, dtype=bool))


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


def test_a_mask_has_the_size_of_its_image(tmp_path, fails_with):
    path = write_image(tmp_path / "m.png", noise(20, 10))
    assert images.load_mask(path, 8, (10, 20)).shape == (8, 8)
    with fails_with(path, "10 x 20", "20 x 10"):
        images.load_mask(path, 8, (20, 10))


def test_image_size_reads_the_header_alone(tmp_path):
    path = cut(write_image(tmp_path / "h.png", noise(64, 32, 3)), share=0.5)
    assert images.image_size(path) == (32, 64)
