"""Products, sums and copies split among threads, against one expression for all."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.kernels import blocks
from mdps_ref.kernels.blocks import Padded, by_blocks, column_sums, contiguous, pixel_sums, pixels_a_line


@pytest.mark.parametrize("shape", [(7, 3), (1, 4), (0, 2), (16, 2), (96, 5), (3000, 40)])
def test_column_sums(shape):
    np.testing.assert_allclose(column_sums(normal(*shape)), np.einsum("pc->c", normal(*shape)), atol=1e-11)


@pytest.mark.parametrize("odd", [0, 1])
def test_column_sums_round_little(odd):
    """Many equal float32 numbers: added one by one, as NumPy does down a column, they are off by a ten-thousandth."""
    x = np.full((2**16 - odd, 64), 0.1, np.float32)
    exact = len(x) * float(np.float32(0.1))
    assert abs(x.sum(axis=0) / exact - 1).max() > 1e-5
    np.testing.assert_allclose(column_sums(x), exact, rtol=2e-6)
    np.testing.assert_allclose(pixel_sums(x[None]), exact, rtol=2e-6)


def test_pixel_sums_keep_images_apart():
    np.testing.assert_allclose(pixel_sums(normal(2, 7, 3)), np.einsum("npc->nc", normal(2, 7, 3))[:, None], atol=1e-13)


@pytest.mark.parametrize("block", [1, 8, 2**16])
def test_blocks_cover_an_array_once(block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    visits = np.zeros((3, 5, 2))

    def visit(part):
        visits[part] += 1

    by_blocks(visit, visits.shape)
    assert (visits == 1).all()


@pytest.mark.parametrize("border", [(0, 0), (1, 1), (0, 2), (2, 1)])
def test_bands_with_a_border_are_those_of_the_padded_images(border):
    x = normal(3, 6, 4, 2)
    padded = Padded(x, (slice(0, 2), slice(0, 4)), border)
    whole = np.pad(x, ((0, 0), border, border, (0, 0)))
    for images, lines in ((slice(0, 2), slice(0, 4)), (slice(1, 3), slice(2, 6)), (slice(2, 3), slice(5, 6)), (slice(0, 1), slice(1, 3))):
        band = padded.lines((images, lines))
        np.testing.assert_array_equal(band, whole[images, lines.start : lines.stop + sum(border)])


@pytest.mark.parametrize(
    "count, c, together", [(64, 3, 64), (96, 3, 32), (7, 3, 1), (4096, 64, 32), (4096, 96, 32), (8, 5000, 1), (0, 3, 1)]
)
def test_lines_are_long_and_cover_the_pixels_evenly(count, c, together):
    assert pixels_a_line(count, c) == together and count % together == 0


@pytest.mark.parametrize("index", [np.s_[:], np.s_[..., 1:], np.s_[:, ::2], np.s_[:, :, 0], np.s_[0, :, 0]])
def test_in_one_piece(index):
    x = normal(2, 4, 5, 3)[index]
    copy = contiguous(x)
    np.testing.assert_array_equal(copy, x)
    assert copy.flags.c_contiguous and (copy is x) == x.flags.c_contiguous
    assert contiguous(x.T).flags.c_contiguous
