"""A folder of golden vectors is read whole: no case is passed over, damaged ones fail by name, a missing folder is an error if named."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
UNET = {"img_size": 16, "base_channels": 32, "channel_mults": [1], "num_res_blocks": 1, "attention_resolutions": "8", "in_channels": 3}
RESNET = {"block": "BasicBlock", "layers": [1, 1, 1, 1], "width_per_group": 64, "size": 64, "eta": 7}


def test_no_case_is_passed_over(unknown_cases):
    assert unknown_cases == [], "spec.json has cases that are neither a UNet (img_size ...) nor a ResNet (block ...)"


def outcome(tests, *options):
    """The exit status of these golden tests, what they print, and the last line of it, which counts them."""
    command = [sys.executable, "-m", "pytest", *(str(HERE / test) for test in tests), *options]
    done = subprocess.run([*command, "-rs", "--tb=short", "-p", "no:cacheprovider"], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, (done.stdout.splitlines() or [""])[-1]


@pytest.fixture
def folder(tmp_path):
    """A folder of golden vectors in which every case is damaged in another way."""
    cases = {"unet_lost": UNET | {"n_heads": 2}, "unet_cut": UNET | {"n_heads": 2}, "unet_short": UNET, "unet_bare": {"img_size": 8}}
    (tmp_path / "spec.json").write_text(json.dumps(cases | {"resnet_lost": RESNET, "resnet_bare": RESNET, "vgg": {"depth": 16}}))
    np.savez(tmp_path / "unet_cut.npz", alpha_bar=np.ones(3))
    (tmp_path / "unet_cut.npz").write_bytes((tmp_path / "unet_cut.npz").read_bytes()[:200])
    np.savez(tmp_path / "unet_short.npz", alpha_bar=np.array([1, 0.5, 50]))
    np.savez(tmp_path / "unet_bare.npz", loss=np.ones(()))
    np.savez(tmp_path / "resnet_bare.npz", a=np.zeros((1, 3, 4, 4), np.float32))
    return tmp_path


def test_what_is_damaged_or_wrong_fails_by_its_name(folder):
    tests = (
        "test_unet.py::test_number_of_parameters",
        "test_unet.py::test_alpha_bar",
        "test_resnet.py::test_pixel_map",
        "test_folder.py::test_no_case_is_passed_over",
    )
    status, printed, counts = outcome(tests, "--golden", folder)
    assert status == 1 and "passed" not in counts and "skipped" not in counts
    for message in (
        f"{folder / 'unet_lost.pth'}: no such file",
        f"{folder / 'unet_lost.npz'}: no whole .npz",
        f"{folder / 'unet_cut.npz'}: no whole .npz",
        f"{folder / 'spec.json'}: unet_short has no 'n_heads'",
        "unet_short: alpha_bar is 9.8e-01 of its largest value away, more than 2.0e-05",
        f"{folder / 'spec.json'}: unet_bare has no 'base_channels'",
        f"{folder / 'unet_bare.npz'}: holds no 'alpha_bar'",
        f"{folder / 'resnet_lost.npz'}: no whole .npz",
        f"{folder / 'resnet_bare.npz'}: holds no 'b'",
        "['vgg'] == []",
    ):
        assert message in printed, message
    assert [line.split()[1:] for line in printed.splitlines() if line.startswith("alpha_bar ")] == [
        ["9.8e-01", "of", "2e-05", "unet_short"]
    ]


def test_a_folder_without_a_readable_table_fails(tmp_path):
    (tmp_path / "spec.json").write_text("{")
    status, printed, _ = outcome(["test_unet.py::test_alpha_bar"], "--golden", tmp_path)
    assert status == 1 and f"{tmp_path / 'spec.json'}: no readable table of cases" in printed


def test_a_named_folder_that_does_not_exist_is_an_error(tmp_path):
    status, printed, _ = outcome(["test_unet.py", "test_resnet.py"], "--golden", tmp_path / "none")
    assert status == pytest.ExitCode.USAGE_ERROR and f"--golden: there is no folder {str(tmp_path / 'none')!r}" in printed


def test_a_missing_neighbour_is_skipped_with_the_reason(tmp_path):
    """In a copy of the tests, which has no neighbour."""
    tests = shutil.copytree(HERE.parent, tmp_path / "main" / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE.parents[1] / "setup.cfg", tmp_path / "main")
    names = [tests / "parity" / name for name in ("test_unet.py", "test_resnet.py", "test_folder.py::test_no_case_is_passed_over")]
    status, printed, counts = outcome(names)
    assert status == 0 and "no golden vectors: there is no folder" in printed
    assert "skipped" in counts and "passed" not in counts
