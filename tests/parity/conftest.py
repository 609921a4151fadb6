"""Golden vectors of the authors' code: `pytest tests/parity --golden FOLDER` compares every case in FOLDER/spec.json with this project.

A case NAME is an entry of spec.json (its architecture), NAME.pth (its weights) and NAME.npz (what their code made of them, channels
first). `Case.array` gives arrays channels-last. A table at the end of the run says how close each quantity is.
"""

import functools
import json
import pathlib

import numpy as np
import pytest

from mdps_ref.weights.state_dict import read_state_dict

NEIGHBOUR = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "parity"
KINDS = {"unet": {"img_size", "base_channels"}, "resnet": {"block", "layers"}}
SINGLE_PASS = 2e-5
CHANNELS_LAST = {4: (0, 2, 3, 1), 5: (0, 1, 3, 4, 2)}
CLOSENESS = pytest.StashKey[list]()


class Case:
    """One network of the authors' code: its settings, its weights under their names, and what their code gave."""

    def __init__(self, folder, name, spec, closeness):
        self.folder, self.name, self.spec, self.closeness = folder, name, spec, closeness

    def setting(self, key):
        """A setting in spec.json."""
        if key not in self.spec:
            pytest.fail(f"{self.folder / 'spec.json'}: {self.name} has no {key!r}", pytrace=False)
        return self.spec[key]

    @functools.cached_property
    def state(self):
        """The state dict, without its `module.` prefix."""
        return read_state_dict(self.folder / f"{self.name}.pth")

    @functools.cached_property
    def arrays(self):
        """Everything in the .npz."""
        path = self.folder / f"{self.name}.npz"
        try:
            with np.load(path) as archive:
                return dict(archive)
        except Exception as error:  # a missing, cut or foreign file: NumPy raises many kinds
            pytest.fail(f"{path}: no whole .npz of golden vectors ({error})", pytrace=False)

    def array(self, key):
        """One array, channels-last if it is an image or a row of images."""
        if key not in self.arrays:
            pytest.fail(f"{self.folder / self.name}.npz: holds no {key!r}", pytrace=False)
        array = self.arrays[key]
        axes = CHANNELS_LAST.get(array.ndim)
        return np.ascontiguousarray(array.transpose(axes)) if axes else array

    def check(self, quantity, ours, limit=SINGLE_PASS):
        """Assert that ours is theirs, up to `limit` times the array's largest value, and note how close it is."""
        theirs = self.array(quantity)
        assert np.shape(ours) == theirs.shape
        error = float(np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1.0))
        self.closeness.append((quantity, error, limit, self.name))
        assert error <= limit, f"{self.name}: {quantity} is {error:.1e} of its largest value away, more than {limit:.1e}"


@functools.cache
def read_spec(folder):
    """({case: settings}, and what is wrong with the folder or "")."""
    path = folder / "spec.json"
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
        return {name: dict(settings) for name, settings in spec.items()}, ""
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return {}, f"{path}: no readable table of cases ({error})"


def kind_of(settings):
    """The kind of network that has such settings; None for neither."""
    return next((kind for kind, keys in KINDS.items() if keys & settings.keys()), None)


def golden_folder(config):
    """--golden, or the folder beside the repository's, which need not exist."""
    given = config.getoption("--golden")
    return NEIGHBOUR if given is None else pathlib.Path(given)


def pytest_generate_tests(metafunc):
    """A test that asks for `unet_case` runs for every UNet in the folder, one that asks for `resnet_case` for every ResNet."""
    folder = golden_folder(metafunc.config)
    for kind in KINDS:
        if f"{kind}_case" in metafunc.fixturenames:
            spec, fault = read_spec(folder) if folder.is_dir() else ({}, "")
            names = [name for name, settings in spec.items() if kind_of(settings) == kind]
            if not folder.is_dir():
                names = [skipped(f"no golden vectors: there is no folder {folder}")]
            elif not names and not fault:
                names = [skipped(f"{folder / 'spec.json'} has no {kind}")]
            metafunc.parametrize(f"{kind}_case", names or ["unreadable"], indirect=True, scope="session")


def skipped(reason):
    """A parameter whose tests are skipped."""
    return pytest.param("", id="none", marks=pytest.mark.skip(reason=reason))


@pytest.fixture
def unknown_cases(golden):
    """The names of cases that are neither a UNet nor a ResNet."""
    return [name for name, settings in golden[1].items() if kind_of(settings) is None]


@pytest.fixture(scope="session")
def golden(pytestconfig):
    """The folder and the {case: settings} of its spec.json."""
    folder = golden_folder(pytestconfig)
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: there is no folder {folder}")
    spec, fault = read_spec(folder)
    if fault:
        pytest.fail(fault, pytrace=False)
    return folder, spec


def make_case(request):
    """The Case that a test's parameter names."""
    folder, spec = request.getfixturevalue("golden")
    return Case(folder, request.param, spec[request.param], request.config.stash.setdefault(CLOSENESS, []))


@pytest.fixture(scope="session")
def unet_case(request):
    """A UNet of the folder, one after another."""
    return make_case(request)


@pytest.fixture(scope="session")
def resnet_case(request):
    """A ResNet of the folder, one after another."""
    return make_case(request)


def pytest_terminal_summary(terminalreporter, config):
    """The largest error of each quantity over all cases, and where it was."""
    worst = {}
    for quantity, *closeness in config.stash.get(CLOSENESS, []):
        worst[quantity] = max(worst.get(quantity, closeness), closeness)
    if worst:
        terminalreporter.section("golden vectors: largest error, as a part of the array's largest value")
        for quantity, (error, limit, name) in worst.items():
            terminalreporter.write_line(f"{quantity:20} {error:8.1e}  of {limit:.0e}  {name}")
