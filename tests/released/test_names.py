"""The authors' names: a bijection, there and back bit for bit, each kernel turned the right way, misfits listed."""

import numpy as np
import pytest
from helpers import bits
from hypothesis import given, settings
from hypothesis import strategies as st

from mdps_ref.errors import InputError
from mdps_ref.nn.layers import apply_conv2d, apply_linear
from mdps_ref.nn.unet import NETWORKS, UNetConfig, check_weights, init_unet
from mdps_ref.released.names import from_released, released_entries, to_released

SMALL = UNetConfig(image_size=16, base_channels=32, multipliers=(1, 2), blocks=1, attention_sizes=(8,), heads=2, groups=32)

# The authors' network for the settings of SMALL, written out: (channels in, channels out) of a residual block, channels of an attention.
BLOCKS = {
    "down.1.0": (32, 32),
    "down.2.0": (32, 32),  # halves
    "down.3.0": (32, 64),
    "down.3.1": 64,
    "middle.0": (64, 64),
    "middle.1": 64,
    "middle.2": (64, 64),
    "up.0.0": (128, 64),
    "up.0.1": 64,
    "up.1.0": (96, 64),
    "up.1.1": 64,
    "up.1.2": (64, 64),  # doubles
    "up.2.0": (96, 32),
    "up.3.0": (64, 32),
}


def written_out():
    """{their name: shape} of every array of SMALL, from BLOCKS."""
    maps = {
        "time_embedding.1": (128, 32),
        "time_embedding.3": (128, 128),
        "down.0.0": (32, 3, 3, 3),
        "out.0": (32,),
        "out.2": (3, 32, 3, 3),
    }
    for place, channels in BLOCKS.items():
        if isinstance(channels, int):
            shapes = {"norm": (channels,), "to_qkv": (3 * channels, channels, 1), "proj_out": (channels, channels, 1)}
        else:
            c_in, c_out = channels
            shapes = {"in_layers.0": (c_in,), "in_layers.2": (c_out, c_in, 3, 3), "embed_layers.1": (c_out, 128)}
            shapes |= {"out_layers.0": (c_out,), "out_layers.3": (c_out, c_out, 3, 3)}
            shapes |= {"skip_connection": (c_out, c_in, 1, 1)} if c_in != c_out else {}
        maps |= {f"{place}.{layer}": shape for layer, shape in shapes.items()}
    return {f"{name}.weight": shape for name, shape in maps.items()} | {f"{name}.bias": shape[:1] for name, shape in maps.items()}


def random_arrays(shapes, seed=0):
    """{name: random float32 array} for {name: shape}."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def shapes_of(arrays):
    return {name: array.shape for name, array in arrays.items()}


@pytest.fixture(scope="module")
def state():
    """A state dict of the authors' network for the settings of SMALL."""
    return random_arrays(written_out())


@st.composite
def configs(draw):
    """Networks of the authors' family, small enough for a test."""
    multipliers = (1, *draw(st.lists(st.integers(1, 3), max_size=2)))
    size = 2 ** (len(multipliers) - 1) * draw(st.integers(1, 6))
    sides = [size >> level for level in range(len(multipliers))]
    return UNetConfig(
        image_size=size,
        base_channels=draw(st.sampled_from([32, 64])),
        multipliers=multipliers,
        blocks=draw(st.integers(1, 3)),
        attention_sizes=tuple(draw(st.sets(st.sampled_from(sides)))),
        heads=draw(st.sampled_from([1, 2, 4, 8])),
        groups=32,
        channels=draw(st.sampled_from([1, 3])),
    )


def test_names_and_shapes_are_those_written_out(state):
    assert shapes_of(to_released(init_unet(SMALL), SMALL)) == shapes_of(state)


@settings(max_examples=10, deadline=None)
@given(configs())
def test_there_and_back_is_where_it_began_bit_for_bit(config):
    weights = random_arrays(shapes_of(init_unet(config)))
    state = to_released(weights, config)
    assert len(state) == len(weights)
    check_weights(from_released(state, config), config)
    assert bits(from_released(state, config)) == bits(weights)
    assert bits(to_released(from_released(state, config), config)) == bits(state)


def test_the_released_network_has_17_steps_down_and_18_up():
    """6 levels of 2 blocks, 5 halvings; 3 blocks a level on the way up, of which the last, and its attention, end in a doubling."""
    places = {entry.theirs.partition(".in_layers")[0] for entry in released_entries(NETWORKS["released"])}
    assert {"down.17.0", "up.17.0", "up.2.2", "up.11.1", "middle.2"} <= places
    assert not {"down.18.0", "up.18.0", "up.3.2", "up.11.2", "middle.3"} & places


def loop_convolution(x, w, b):
    """PyTorch's convolution by its definition.  Shapes: x (N, Ci, H, W), w (Co, Ci, K, K), K odd, b (Co) -> (N, Co, H, W)."""
    n, _, h, width = x.shape
    c_out, c_in, k, _ = w.shape
    x, y = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2))), np.zeros((n, c_out, h, width))
    for o, c, i, j in np.ndindex(c_out, c_in, k, k):
        y[:, o] += w[o, c, i, j] * x[:, c, i : i + h, j : j + width]
    return y + b[:, None, None]


@pytest.mark.parametrize(
    "theirs, ours, layer",
    [
        ("down.1.0.in_layers.2", "down.0.0.conv_in", apply_conv2d),
        ("out.2", "last.conv", apply_conv2d),
        ("up.3.0.skip_connection", "up.0.1.shortcut", apply_linear),
        ("middle.1.to_qkv", "middle.0.attention.qkv", apply_linear),
        ("middle.1.proj_out", "middle.0.attention.project", apply_linear),
        ("time_embedding.3", "time.1", apply_linear),
    ],
)
def test_a_kernel_does_here_what_it_does_there(state, theirs, ours, layer):
    """As many channels out as in, or not: a kernel turned the wrong way gives another image."""
    w, b = state[f"{theirs}.weight"], state[f"{theirs}.bias"]
    kernel = w if w.ndim == 4 else w.reshape(*w.shape[:2], 1, 1)
    x = np.random.default_rng(1).standard_normal((2, w.shape[1], 3, 4), np.float32)
    y = layer(from_released(state, SMALL), ours, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(y.transpose(0, 3, 1, 2), loop_convolution(x, kernel, b), atol=1e-4)


def test_every_entry_that_does_not_fit_is_listed_in_one_line(state, fails_with):
    wrong = state | {"epoch": np.array(3), "time_embedding.1.weight": state["time_embedding.1.weight"].T}
    wrong["out.2.weight"] = state["out.2.weight"].transpose(2, 3, 1, 0)
    del wrong["down.0.0.bias"], wrong["middle.1.norm.weight"]
    with fails_with(
        "down.0.0.bias is missing",
        "middle.1.norm.weight is missing",
        "epoch is unexpected",
        "time_embedding.1.weight has shape (32, 128), not (128, 32)",
        "out.2.weight has shape (3, 3, 32, 3), not (3, 32, 3, 3)",
    ):
        from_released(wrong, SMALL)


def test_nothing_else_is_listed(state):
    with pytest.raises(InputError) as caught:
        from_released({name: array for name, array in state.items() if name != "out.0.bias"}, SMALL)
    assert str(caught.value) == "the authors' state dict does not fit the network: out.0.bias is missing"


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_are_float32_whatever_the_file_holds(state, dtype):
    weights = from_released({name: array.astype(dtype) for name, array in state.items()}, SMALL)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(weights["time.0.weight"].T, state["time_embedding.1.weight"].astype(dtype).astype(np.float32))


def test_what_comes_out_is_contiguous_memory_of_its_own(state):
    weights = from_released(state, SMALL)
    back = to_released(weights, SMALL)
    assert all(array.flags.c_contiguous for array in (*weights.values(), *back.values()))
    for entry in released_entries(SMALL):
        assert not np.shares_memory(weights[entry.ours], state[entry.theirs])
        assert not np.shares_memory(weights[entry.ours], back[entry.theirs])


def test_a_network_that_their_code_cannot_run_is_refused(fails_with):
    """Its norms have 8 groups; theirs always have 32."""
    with fails_with("8 groups", "32"):
        to_released(init_unet(UNetConfig()), UNetConfig())
    with fails_with("8 groups", "32"):
        from_released({}, UNetConfig())
