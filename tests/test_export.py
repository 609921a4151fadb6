"""The command that writes a checkpoint as the authors' trainer would: their names, the weights bit for bit, one line for every mistake."""

import os
import signal
import time
import zipfile

import numpy as np
import pytest

from mdps_ref.export import main
from mdps_ref.job.train import save_training, start_training
from mdps_ref.nn.unet import NETWORKS, UNetConfig
from mdps_ref.released.names import from_released
from mdps_ref.weights.checkpoint import save_checkpoint
from mdps_ref.weights.state_dict import read_state_dict


@pytest.fixture
def config(quick_config, monkeypatch):
    """The settings of a run with a small network of the authors' family, which stands in for `released`."""
    network = UNetConfig(base_channels=32, multipliers=(1, 2), blocks=2, attention_sizes=(16, 8), heads=2, groups=32)
    monkeypatch.setitem(NETWORKS, "released", network)
    return quick_config(network="released")


@pytest.fixture
def state(config, tmp_path):
    """A state of training, whose moving average is not its weights; its checkpoint lies in tmp_path."""
    state = start_training(config, np)
    rng = np.random.default_rng(0)
    state.ema = {name: rng.standard_normal(w.shape, np.float32) for name, w in state.weights.items()}
    save_training(tmp_path, state, config)
    return state


def export(folder, checkpoint="checkpoint.npz"):
    return main([str(folder / checkpoint), str(folder / "out.pth")])


def test_the_moving_average_is_exported_bit_for_bit(state, config, tmp_path):
    assert export(tmp_path) == 0
    weights = from_released(read_state_dict(tmp_path / "out.pth"), config.unet())
    assert {name: w.tobytes() for name, w in weights.items()} == {name: w.tobytes() for name, w in state.ema.items()}


def test_every_name_has_their_trainers_prefix_and_the_settings_of_the_network_are_told(state, tmp_path, capsys):
    assert export(tmp_path) == 0
    with zipfile.ZipFile(tmp_path / "out.pth") as archive:
        (pickled,) = (archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    assert pickled.count(b"module.") == len(state.ema) and b"module.time_embedding.1.weight" in pickled
    settings = "img_size=16 base_channels=32 channel_mults=1,2 num_res_blocks=2 attention_resolutions=16,8 n_heads=2 in_channels=3"
    assert capsys.readouterr().out == f"{tmp_path / 'out.pth'}: for a network of {settings}\n"


def refused(folder, capsys, *parts, checkpoint="checkpoint.npz"):
    """Assert that the command ends with status 2, one line with these parts, and no new file."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert export(folder, checkpoint) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and [part for part in parts if str(part) not in message] == [], message
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_ctrl_c_ends_it_in_one_line(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("mdps_ref.export.export", interrupted)
    assert main([str(tmp_path / "in.npz"), str(tmp_path / "out.pth")]) == 130
    assert capsys.readouterr().err == "mdps_ref: stopped by SIGINT\n"


def test_a_file_that_is_there_already_stays(state, tmp_path, capsys):
    (tmp_path / "out.pth").write_bytes(b"weights of a week")
    refused(tmp_path, capsys, tmp_path / "out.pth", "already")


def test_a_network_that_their_code_cannot_run_is_refused(quick_config, tmp_path, capsys):
    config = quick_config()
    save_training(tmp_path, start_training(config, np), config)
    refused(tmp_path, capsys, tmp_path / "checkpoint.npz", "8 groups")


def test_what_is_no_checkpoint_is_refused(tmp_path, capsys):
    refused(tmp_path, capsys, tmp_path / "none.npz", "checkpoint.npz of a run folder", checkpoint="none.npz")


@pytest.mark.parametrize("groups, about", [({"ema": {}}, {}), ({"weights": {}}, {"config": {"network": "tiny", "image_size": 16}})])
def test_a_checkpoint_without_a_network_is_refused(groups, about, tmp_path, capsys):
    groups = {group: members | {"a": np.zeros(1)} for group, members in groups.items()}
    save_checkpoint(tmp_path / "checkpoint.npz", groups, about)
    refused(tmp_path, capsys, tmp_path / "checkpoint.npz", "checkpoint.npz of a run folder")


def test_weights_of_another_network_are_refused(state, config, tmp_path, capsys):
    ema = {name: w for name, w in state.ema.items() if name != "first.bias"}
    save_checkpoint(tmp_path / "checkpoint.npz", {"ema": ema}, {"config": {"network": "released", "image_size": 16}})
    refused(tmp_path, capsys, tmp_path / "checkpoint.npz", "first.bias is missing")


def test_weights_that_are_not_finite_are_refused(state, config, tmp_path, capsys):
    state.ema["first.bias"][0] = np.nan
    save_training(tmp_path, state, config)
    refused(tmp_path, capsys, tmp_path / "checkpoint.npz", "not finite, in 'first.bias'")
