"""Ground-truth masks of every kind: which pixels are anomalous, what is noted, what is refused."""

import struct

import numpy as np
import pytest
from helpers import write_image
from PIL import Image

from mdps_ref.data import masks
from mdps_ref.data.findings import Findings

SQUARE = np.zeros((40, 40), np.uint8)
SQUARE[8:14, 20:30] = 255
LAYERS = np.repeat(SQUARE[:, :, None], 4, axis=2)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def coloured(*colours, alpha=SQUARE, below=(0, 0, 0)):
    """A mask painted in vertical stripes of these colours where the square is, with an alpha channel."""
    pixels = np.empty((40, 40, 4), np.uint8)
    pixels[:, :, :3], pixels[:, :, 3] = below, alpha
    for k, colour in enumerate(colours):
        pixels[8:14, 20 + 10 * k // len(colours) : 30, :3] = colour
    return pixels


def soft(values):
    return np.asarray(Image.fromarray(values).resize((20, 20), Image.Resampling.BILINEAR).resize((40, 40), Image.Resampling.BILINEAR))


RIM = np.array([255, 255, 255, 0], np.uint8)
KINDS = {  # pixels, and what is noted
    "0 and 255": (SQUARE, []),
    "0 and 1": (SQUARE // 255, []),
    "0 and 1 of 16 bits": ((SQUARE // 255).astype(np.uint16), []),
    "0 and 1 of floats": ((SQUARE // 255).astype(np.float32), []),
    "one bit": (Image.fromarray(SQUARE).convert("1"), []),
    "red": (SQUARE[:, :, None] * np.array([1, 0, 0], np.uint8), []),
    "a palette": (Image.fromarray(LAYERS[:, :, :3]).quantize(2), []),
    "white on transparent": (coloured([255] * 3, below=[255] * 3), []),
    "black on transparent": (coloured([0] * 3), []),
    "black on transparent white": (coloured([0] * 3, below=[255] * 3), []),
    "colours on transparent": (coloured([200, 0, 0], [0, 0, 90]), []),
    "grey and transparent": (
        Image.merge("LA", [Image.fromarray(SQUARE)] * 2),
        [],
    ),
    "white on opaque black": (coloured([255] * 3, alpha=255), []),
    "white on black, with a transparent white rim": (np.concatenate([coloured([255] * 3, alpha=255)[:34], np.tile(RIM, (6, 40, 1))]), []),
    "a soft brush": (coloured([255] * 3, below=[255] * 3, alpha=np.maximum(SQUARE, np.roll(SQUARE, 3, 0) // 3)), [masks.HALF_TRANSPARENT]),
    "a grey edge": (np.maximum(SQUARE, np.roll(SQUARE, 3, 0) // 3), [masks.MANY_LEVELS]),
    "noise of JPEG": (np.where(SQUARE, 250, 3).astype(np.uint8) - noise(40, 40) % 4, [masks.MANY_LEVELS]),
    "noise, 16 bits": (np.where(SQUARE, 50000, 300).astype(np.uint16) - noise(40, 40), [masks.MANY_LEVELS]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_square_is_anomalous(tmp_path, kind):
    pixels, noted = KINDS[kind]
    path, findings = write_image(tmp_path / f"m.{'tif' if 'float' in kind else 'png'}", pixels), Findings()
    np.testing.assert_array_equal(masks.load_mask(path, 40, (40, 40), findings=findings), SQUARE > 0)
    assert list(findings.as_dict()) == noted
    np.testing.assert_array_equal(masks.load_mask(path, 20, (40, 40), masks.nearest_mask), SQUARE[1::2, 1::2] > 0)


def test_a_mask_whose_zero_is_white(tmp_path):
    path = write_image(tmp_path / "m.tif", 65535 - SQUARE.astype(np.uint16) * 257)
    meaning, content = struct.pack("<HHIH", 262, 3, 1, 1), path.read_bytes()
    assert content.count(meaning) == 1
    path.write_bytes(content.replace(meaning, struct.pack("<HHIH", 262, 3, 1, 0)))
    np.testing.assert_array_equal(masks.load_mask(path, 40, (40, 40)), SQUARE > 0)


def test_soft_edges_are_cut_at_half_height(tmp_path):
    mask = masks.load_mask(write_image(tmp_path / "m.png", soft(SQUARE)), 40, (40, 40))
    np.testing.assert_array_equal(mask, soft(SQUARE) >= 128)
    ten_bits = write_image(tmp_path / "ten.png", np.uint16([[0, 512, 515, 1023]] * 4))
    np.testing.assert_array_equal(masks.load_mask(ten_bits, 4, (4, 4), white=1023), [[False, False, True, True]] * 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_images(tmp_path, dtype, fails_with):
    path = write_image(tmp_path / "labels.png", np.arange(64, dtype=dtype).reshape(8, 8) % 4)
    with fails_with(path, "levels from 0 to 3", "0 for normal and 255 for anomalous"):
        masks.load_mask(path, 8, (8, 8))


def test_a_mask_that_is_transparent_everywhere(tmp_path, fails_with):
    path = write_image(tmp_path / "clear.png", coloured([255] * 3, alpha=0))
    with fails_with(path, "transparent everywhere", "without an alpha channel"):
        masks.load_mask(path, 8, (40, 40))


@pytest.mark.parametrize("shrink", [masks.nearest_mask, masks.bilinear_mask])
def test_a_defect_that_vanishes_is_kept_where_it_covers_most(tmp_path, shrink):
    tiny = np.zeros((4000, 4000) if shrink is masks.bilinear_mask else (400, 400), np.uint8)
    place = np.array(tiny.shape) * (3, 5) // 16
    tiny[place[0] + 1, place[1]] = 255
    findings = Findings()
    mask = masks.load_mask(write_image(tmp_path / "tiny.png", tiny), 32, tiny.shape, shrink, findings=findings)
    np.testing.assert_array_equal(np.argwhere(mask), [[6, 10]])
    assert list(findings.as_dict()) == [masks.VANISHING]


@pytest.mark.parametrize(("value", "noted"), [(0, masks.EMPTY), (255, masks.FULL), (1, masks.FULL)])
def test_masks_of_one_level_are_noted(tmp_path, value, noted):
    findings = Findings()
    mask = masks.load_mask(write_image(tmp_path / "scratch" / "000_mask.png", value), 8, (8, 8), findings=findings)
    assert (mask == (value > 0)).all()
    assert findings.lines() == [f"1 {noted}: scratch/000_mask.png"]


def test_a_letterboxed_mask_is_normal_beside_its_image(tmp_path):
    mask = masks.load_mask(write_image(tmp_path / "m.png", np.full((10, 20), 255, np.uint8)), 32, (20, 10), fit="letterbox")
    np.testing.assert_array_equal(mask.any(axis=1), np.pad(np.ones(16, bool), 8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_mask_modes(tmp_path, mode):
    expected = np.zeros((8, 8), bool)
    expected[2:4, 3:7] = True
    image = Image.fromarray(expected.astype(np.uint8) * 255).convert("RGB").convert(mode)
    np.testing.assert_array_equal(masks.load_mask(write_image(tmp_path / "m.png", image), 8, (8, 8)), expected)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_mask_is_where_any_channel_is_above_zero(tmp_path, channel):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[1, 2, channel], pixels[5, 6] = 1, [channel == 0, channel == 1, channel == 2]
    mask = masks.load_mask(write_image(tmp_path / "m.png", pixels), 8, (8, 8))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, pixels.any(axis=-1))


def test_masks_are_resized_to_nearest_neighbours(tmp_path):
    path = write_image(tmp_path / "m.png", np.eye(8, dtype=np.uint8) * 255)
    np.testing.assert_array_equal(masks.load_mask(path, 24, (8, 8)), np.kron(np.eye(8), np.ones((3, 3))) > 0)
    pixels = noise(32, 32) // 128
    mask = masks.load_mask(write_image(tmp_path / "n.png", pixels), 8, (32, 32))
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


@pytest.mark.parametrize(("side", "size", "level"), [(40, 16, 255), (16, 40, 99), (16, 16, 1), (37, 8, 40)])
def test_a_bilinear_mask_is_where_the_resized_8_bit_values_are_above_zero(tmp_path, side, size, level):
    pixels = np.uint8(level) * (np.random.default_rng(1).random((side, side)) < 0.02)
    weights = triangle(side, size)
    resized = np.rint(weights @ np.rint(pixels @ weights.T))  # columns first, rounded to 8 bits after either
    mask = masks.load_mask(write_image(tmp_path / "m.png", pixels), size, (side, side), masks.bilinear_mask)
    assert 0 < mask.mean() < 0.9
    np.testing.assert_array_equal(mask, resized > 0)


def test_sixteen_bits_above_zero_stay_above_zero_under_either_rule(tmp_path):
    path = write_image(tmp_path / "m.png", np.eye(8, dtype=np.uint16))
    for shrink in (masks.bilinear_mask, masks.nearest_mask):
        np.testing.assert_array_equal(masks.load_mask(path, 8, (8, 8), shrink), np.eye(8, dtype=bool))


def test_a_mask_has_the_size_of_its_image(tmp_path, fails_with):
    path = write_image(tmp_path / "m.png", noise(20, 10))
    assert masks.load_mask(path, 8, (10, 20)).shape == (8, 8)
    with fails_with(path, "10 x 20", "20 x 10"):
        masks.load_mask(path, 8, (20, 10))


@pytest.mark.parametrize("white", [None, 4095])
@pytest.mark.parametrize("largest", [65535, 4095, 255])
def test_a_16_bit_mask_of_photographs_of_fewer_bits(white, largest, tmp_path):
    """The photographs' white says nothing of a mask that has larger values; else half of it is where soft edges are cut."""
    soft_edge = np.maximum(SQUARE, np.roll(SQUARE, 3, 0) // 3)
    for pixels, noted in ((SQUARE // 255 * np.uint16(largest), []), (soft_edge // 85 * np.uint16(largest // 3), [masks.MANY_LEVELS])):
        if noted and largest != (white or 65535):
            continue
        findings, path = Findings(), write_image(tmp_path / "mask.png", pixels.astype(np.uint16))
        np.testing.assert_array_equal(masks.load_mask(path, 40, (40, 40), masks.nearest_mask, white, findings=findings), SQUARE > 0)
        assert list(findings.as_dict()) == noted


def test_a_mask_that_is_opaque_nearly_everywhere_is_noted(tmp_path):
    """A turned mask without a defect has transparent corners, and its opaque pixels are all black."""
    path, findings = write_image(tmp_path / "turned.png", coloured([0] * 3, alpha=255 - SQUARE)), Findings()
    np.testing.assert_array_equal(masks.load_mask(path, 40, (40, 40), findings=findings), SQUARE == 0)
    assert list(findings.as_dict()) == [masks.FROM_TRANSPARENCY]
