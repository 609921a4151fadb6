"""The array module with a pretend device; random streams: their keys, independence and normal moments."""

import importlib
import itertools
import types

import numpy as np
import pytest

from mdps_ref import backend

# The array module


def test_the_module_is_the_one_that_made_the_arrays(strict_device):
    assert backend.array_module(np.ones(2), 3, np.zeros((), np.float32), 0.5) is np
    assert backend.array_module(np.float32(1), np.ones(2)) is np
    assert backend.array_module(strict_device.asarray(np.ones(2)), 3, 0.5) is strict_device


def test_numbers_alone_are_numpys():
    assert backend.array_module(1, 2.0, True) is np


def test_host_and_device_arrays_do_not_mix(strict_device):
    for arrays in itertools.permutations((np.ones(2), strict_device.asarray(np.ones(2)), 1.0)):
        with pytest.raises(TypeError, match="numpy and strict_device are mixed; move them with to_device or to_host"):
            backend.array_module(*arrays)


@pytest.mark.parametrize("nothing", [[1.0, 2.0], (1.0,), None, "ones", {"a": 1}], ids=lambda value: type(value).__name__)
def test_what_is_no_array_is_refused(nothing):
    with pytest.raises(TypeError, match=f"expected arrays, got .*{type(nothing).__name__}"):
        backend.array_module(nothing)
    with pytest.raises(TypeError):
        backend.array_module(np.ones(2), nothing)
    with pytest.raises(TypeError):
        backend.to_host(nothing)


def test_arrays_go_to_the_device_and_come_back(strict_device):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    there = backend.to_device(x, strict_device)
    assert isinstance(there, strict_device.ndarray)
    assert backend.to_device(there, strict_device) is there
    np.testing.assert_array_equal(backend.to_host(there), x)
    assert backend.to_host(x) is x
    assert backend.to_device(x, np) is x


# The backend by name


def cupy_that(count):
    """A pretend CuPy that calls `count` to count its devices."""
    runtime = types.SimpleNamespace(getDeviceCount=count)
    return types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))


@pytest.fixture
def install(monkeypatch):
    """install(cupy): the import of cupy returns this module, or raises this error."""

    def importing(cupy):
        def import_module(name):
            assert name == "cupy"
            if isinstance(cupy, Exception):
                raise cupy
            return cupy

        monkeypatch.setattr(importlib, "import_module", import_module)

    return importing


def no_device():
    raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nmore about it")


BANNER = ImportError("\n=====\nFailed to import CuPy.\n\nOriginal error:\n  libcuda.so.1\n=====\n")
WITHOUT_GPU = {
    "not installed": (ModuleNotFoundError("No module named 'cupy'"), "No module named 'cupy'"),
    "no device": (cupy_that(no_device), "cudaErrorNoDevice: no CUDA-capable device is detected"),
    "not importable": (BANNER, "Failed to import CuPy."),
    "a driver that says nothing": (OSError(), "OSError"),
}


@pytest.mark.parametrize("cupy, reason", WITHOUT_GPU.values(), ids=WITHOUT_GPU)
def test_without_a_gpu_cupy_is_one_line_and_auto_is_numpy(cupy, reason, install, fails_with):
    install(cupy)
    assert backend.find_backend("auto") is np
    assert backend.find_backend("numpy") is np
    with fails_with("backend 'cupy'", reason, "or use numpy"):
        backend.find_backend("cupy")


def test_with_a_gpu_auto_is_cupy(install):
    cupy = cupy_that(lambda: 1)
    install(cupy)
    assert backend.find_backend("auto") is cupy
    assert backend.find_backend("cupy") is cupy
    assert backend.find_backend("numpy") is np


def test_an_unknown_backend_is_refused(fails_with):
    with fails_with("'torch'", "numpy, cupy, auto"):
        backend.find_backend("torch")


# Random streams

KEY = (3, "guided", "test/good/000", 2)


def test_the_same_key_gives_the_same_numbers():
    np.testing.assert_array_equal(backend.random_stream(*KEY).random(100), backend.random_stream(*KEY).random(100))
    image = np.random.default_rng(0).integers(9)
    assert backend.random_stream(np.int64(3), "a", "b", image).random() == backend.random_stream(3, "a", "b", int(image)).random()


def test_no_parts_of_the_key_can_be_confused():
    keys = [KEY, (4, *KEY[1:]), (3, "mdps", *KEY[2:]), (*KEY[:2], "test/good/001", 2), (*KEY[:3], 3)]
    keys += [(3, "", "", 0), (3, "a", "", 0), (3, "", "a", 0), (3, "a, b", "", 0), (3, "a", "b", 0), (30, "", "", 0), (3, "", "", 30)]
    assert len({backend.random_stream(*key).random() for key in keys}) == len(keys)


def test_streams_are_uncorrelated():
    """No correlation between 45 pairs of streams exceeds 5 standard deviations; the streams' keys differ by the sample alone."""
    streams = np.array([backend.random_stream(0, "guided", "a", sample).standard_normal(4000) for sample in range(10)])
    correlation = np.corrcoef(streams) - np.eye(10)
    assert abs(correlation).max() < 5 / np.sqrt(4000)


def test_a_stream_does_not_see_the_draws_of_others():
    alone = backend.random_stream(*KEY).random(6)
    np.random.seed(1)
    mine, other = backend.random_stream(*KEY), backend.random_stream(3, "mdps")
    parts = []
    for _ in range(3):
        other.standard_normal(17)
        np.random.random(3)
        parts.append(mine.random(2))
    np.testing.assert_array_equal(np.concatenate(parts), alone)


def test_normal_draws_have_normal_moments():
    """Mean 0, variance 1, skewness 0 and kurtosis 3, within 5 standard errors of each."""
    n = 100_000
    x = backend.random_stream(0, "moments").standard_normal(n)
    errors = [x.mean(), x.var() - 1, (x**3).mean(), (x**4).mean() - 3]
    assert np.all(np.abs(errors) < 5 * np.sqrt(np.array([1, 2, 15, 96]) / n)), errors


def test_an_image_has_its_key_from_its_pixels_alone():
    """Rounding that a decoder leaves changes no key; a grey level of one pixel does."""
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3)) / 127.5 - 1
    other = image.copy()
    other[2, 1, 0] += 1 / 127.5
    assert backend.image_key(image.astype(np.float32)) == backend.image_key(image + 1e-4)
    assert backend.image_key(image) != backend.image_key(other) != backend.image_key(image[::-1])


def test_an_image_has_its_key_in_any_layout_of_memory():
    image = np.random.default_rng(0).uniform(-1, 1, (3, 4, 5)).transpose(1, 2, 0)
    key = backend.image_key(np.ascontiguousarray(image))
    assert key == backend.image_key(image) == backend.image_key(np.asfortranarray(image))
