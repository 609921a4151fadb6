"""What several test files share: the expectation of a one-line error, and the settings of a run that takes a moment."""

import contextlib
import importlib.util
import pathlib
import sys

import numpy as np
import pytest

from mdps_ref.backend import find_backend
from mdps_ref.errors import InputError
from mdps_ref.job.config import make_config
from mdps_ref.kernels import table

QUICK = {
    "image_size": 16,
    "network": "tiny",
    "train_steps": 3,
    "batch_size": 2,
    "checkpoint_every": 2,
    "guided_start": 60,
    "mdps_start": 60,
    "stride": 30,
    "samples": 1,
    "features": "unet",
}

TABLE = table.TABLE


@pytest.fixture
def strict_device(monkeypatch):
    """A pretend CuPy, known by its name as an array module must be; see `strict_device.py`."""
    spec = importlib.util.spec_from_file_location("strict_device", pathlib.Path(__file__).with_name("strict_device.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "strict_device", module)
    return module


@pytest.fixture(params=["numpy", "strict", "cupy"])
def xp(request):
    """Each array module that is there: NumPy, the pretend device, and CuPy where it finds a GPU."""
    if request.param == "strict":
        return request.getfixturevalue("strict_device")
    try:
        return find_backend(request.param)
    except InputError as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def _fails_with(*parts):
    """Expect an InputError of one line that holds every part."""
    with pytest.raises(InputError) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in parts if str(part) not in message] == [], message


@pytest.fixture(scope="session")
def fails_with():
    """fails_with(*parts): a context that expects an InputError of one line that holds every part."""
    return _fails_with


@pytest.fixture
def quick_settings():
    """Settings, a fresh dictionary, with which every stage of a run takes a moment."""
    return dict(QUICK)


@pytest.fixture(scope="session")
def quick_config():
    """quick_config(**settings): the Config of such a run, with these settings changed."""
    return lambda **settings: make_config(QUICK | settings)


@pytest.fixture(scope="session")
def some_images():
    """some_images(count, size=16): random images on the host.  Shapes: -> (count, size, size, 3) float32.  Range: [-1, 1]."""
    return lambda count, size=16: np.random.default_rng(count).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def pytest_addoption(parser):
    """--equation E05: run only its tests.  --golden FOLDER: what tests/parity compares with.  --fuzz N: change more files.

    --kernels on, off: see the fixtures.  --long: run the tests marked long, too.
    """
    parser.addoption("--kills", metavar="N", type=int, default=2, help="SIGKILLs that a run has to survive (default: 2)")
    parser.addoption("--fuzz", metavar="N", type=int, default=200, help="how many changed files each fuzz test tries (default: 200)")
    parser.addoption("--long", action="store_true", help="run the tests marked long, too: whole notebooks in a browser, half an hour")
    parser.addoption("--equation", metavar="ID", help="run only the tests marked with this equation id")
    parser.addoption("--kernels", choices=("on", "off"), help="run every test inside fast(), or with the table of fast kernels empty")
    parser.addoption("--golden", metavar="FOLDER", help="golden vectors for tests/parity (default: ../shared/parity beside the repository)")


@pytest.fixture(scope="session", autouse=True)
def kernels_off(request):
    """With --kernels off the table is empty, even where the code enters fast()."""
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--kernels") == "off":
            patch.setattr(table, "TABLE", {})
        yield


@pytest.fixture(autouse=True)
def kernels(request, monkeypatch):
    """With --kernels on every test runs inside fast().  A test marked `kernels_as_they_are` is about one form, and keeps it."""
    if request.node.get_closest_marker("kernels_as_they_are"):
        monkeypatch.setattr(table, "TABLE", TABLE)
    elif request.config.getoption("--kernels") == "on":
        request.getfixturevalue("inside_fast")


@pytest.fixture
def inside_fast():
    """The test runs inside fast()."""
    with table.fast():
        yield


def pytest_configure(config):
    """Refuse a named folder that does not exist; without the option tests/parity skips what it does not find."""
    golden = config.getoption("--golden")
    if golden is not None and not pathlib.Path(golden).is_dir():
        raise pytest.UsageError(f"--golden: there is no folder {golden!r}")


def pytest_collection_modifyitems(config, items):
    """Keep the tests of the equation that was asked for, and leave out the long ones unless they were."""
    if not config.getoption("--long"):
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    wanted = config.getoption("--equation")
    if wanted:
        items[:] = [item for item in items if any(wanted in mark.args for mark in item.iter_markers("equation"))]
