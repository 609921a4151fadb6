"""Scoring on a Dask cluster: the bytes of one process, whatever dies."""

import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import cut, write_image

from mdps_ref import Detector, score
from mdps_ref.data.images import load_image
from mdps_ref.data.listing import list_images
from mdps_ref.job.scoring_session import Row, RowStream, score_files
from mdps_ref.nn.unet import init_unet

distributed = pytest.importorskip("distributed", reason="Dask is not installed: the extra `cluster`")
from mdps_ref.job.cluster import AHEAD, SAME  # noqa: E402 (needs Dask)
from mdps_ref.job.cluster_scoring import KILLER, _Scoring, on_cluster  # noqa: E402

pytestmark = [pytest.mark.kernels_as_they_are, pytest.mark.filterwarnings("ignore")]  # of processes that die; the workers have the table
BATCH = 4  # images


@pytest.fixture(scope="module")
def place(tmp_path_factory, quick_config, some_images):
    """A folder with a detector and 14 photographs, one of them damaged."""
    place, config = tmp_path_factory.mktemp("place"), quick_config(samples=BATCH, image_score="max")
    Detector.calibrated(init_unet(config.unet()), some_images(4), config).save(place / "detector.npz", {})
    for number in range(14):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 17, 3), np.uint8)
        write_image(place / "photographs" / f"{number % 3}" / f"{number:02}.png", pixels)
    cut(place / "photographs/1/07.png")
    return place


@pytest.fixture(scope="module")
def call(place):
    """call(out, *arguments): the arguments that score the photographs."""
    return lambda out, *more: [str(part) for part in (place / "detector.npz", place / "photographs", "--out", out, *more)]


@pytest.fixture(scope="module")
def alone(call, tmp_path_factory, contents):
    """What one process with one thread leaves."""
    out = tmp_path_factory.mktemp("alone") / "out"
    assert score.main(call(out, "--threads", "1")) == 0
    return contents(out)


def test_the_bytes_are_those_of_one_process(cluster, place, alone, tmp_path, contents, monkeypatch, capfd):
    """The workers find the images, which are given by a path that is relative to another folder than theirs."""
    monkeypatch.chdir(place)
    arguments = ["detector.npz", "photographs", "--out", str(tmp_path / "out"), "--cluster", cluster.scheduler_address, "--threads", "2"]
    assert score.main(arguments) == 0
    assert contents(tmp_path / "out") == alone and "do not see" not in capfd.readouterr().err


@pytest.mark.skipif(not os.path.exists("/proc/self/cwd"), reason="this system has no path that means another place in another process")
@pytest.mark.parametrize("asked", [True, False], ids=["at first", "found out later"])
def test_workers_that_do_not_see_the_images_are_sent_them(asked, cluster, place, alone, tmp_path, contents, monkeypatch, capfd):
    if not asked:
        monkeypatch.setattr(_Scoring, "_unseen", lambda scoring, images: False)  # as if the blind worker came later
    monkeypatch.chdir(place)
    arguments = [place / "detector.npz", "/proc/self/cwd/photographs", "--out", tmp_path / "out"]
    assert score.main([*map(str, arguments), "--cluster", cluster.scheduler_address]) == 0
    assert contents(tmp_path / "out") == alone
    assert ("do not see /proc/self/cwd/photographs" in capfd.readouterr().err) == asked


def rows_of(detector, photographs, client=None):
    """{path: Row} of the photographs, in their order: from one process, or from the cluster."""
    rows = score_files(detector, list_images([photographs]), RowStream(io.StringIO(), True), score_batches=client and on_cluster(client))
    return {row.path: row for row in rows}


def deadly(image, once=None):
    """An extractor of features that kills the process that sees this image; only the first one, if `once` is a path."""

    def features(images):
        if (images == image).all(axis=(1, 2, 3)).any() and not (once and once.exists()):
            once and once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [images]

    return features


def harmless(images):
    return [images]


@pytest.mark.parametrize("allowed", [3, 0], ids=["sent to another", "suspected"])
def test_a_worker_that_is_killed_loses_nothing(allowed, cluster, client, place, tmp_path, monkeypatch):
    """Dask sends its batch to another worker; or it tells of the death, and no image is found to be guilty."""
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", allowed)
    detector, image = Detector.load(place / "detector.npz"), load_image(place / "photographs/2/08.png", 16)
    once = tmp_path / "killed"
    found = rows_of(dataclasses.replace(detector, features=deadly(image, once)), place / "photographs", client)
    assert once.exists()
    assert found == rows_of(dataclasses.replace(detector, features=harmless), place / "photographs")


def test_an_image_that_kills_each_worker_is_left_out_by_name_and_all_others_are_scored(client, place, tmp_path):
    """As if its file were damaged: the others of its batch are scored together."""
    detector, image = Detector.load(place / "detector.npz"), load_image(place / "photographs/2/08.png", 16)
    found = rows_of(dataclasses.replace(detector, features=deadly(image)), place / "photographs", client)
    shutil.copytree(place / "photographs", tmp_path / "photographs")
    cut(tmp_path / "photographs/2/08.png")
    expected = rows_of(dataclasses.replace(detector, features=harmless), tmp_path / "photographs")
    assert found == expected | {"2/08.png": Row("2/08.png", left_out=KILLER)}


def test_a_client_that_is_killed_goes_on_to_the_same_bytes(cluster, call, alone, tmp_path, contents):
    arguments = call(tmp_path / "out", "--cluster", cluster.scheduler_address)
    path = tmp_path / "out/scores.csv"
    with subprocess.Popen([sys.executable, "-m", "mdps_ref.score", *arguments], stdout=subprocess.DEVNULL) as killed:
        while not (path.exists() and path.read_text().count("\n") > BATCH) and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL and len(path.read_text().splitlines()) < 15
    assert score.main([*arguments, "--resume"]) == 0
    assert contents(tmp_path / "out") == alone


def test_a_scheduler_that_dies_is_one_line_and_the_command_goes_on(call, cluster, alone, tmp_path, contents):
    """The scheduler, with its worker, in a process of their own."""
    code = """if __name__ == "__main__":
        import distributed, time
        with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=":0") as cluster:
            print(cluster.scheduler_address, flush=True)
            time.sleep(600)"""
    (tmp_path / "serve.py").write_text(code)
    with subprocess.Popen([sys.executable, tmp_path / "serve.py"], stdout=subprocess.PIPE, text=True) as scheduler:
        arguments = call(tmp_path / "out", "--quiet", "--cluster", scheduler.stdout.readline().strip())
        with subprocess.Popen([sys.executable, "-m", "mdps_ref.score", *arguments], stderr=subprocess.PIPE, text=True) as client:
            while not (tmp_path / "out/scores.csv").exists() and client.poll() is None:
                time.sleep(0.01)
            scheduler.kill()
            told = client.stderr.read()
    assert client.returncode == 2 and told.count("\n") == 1 and "scheduler" in told and "--resume" in told
    assert score.main([*call(tmp_path / "out", "--resume", "--cluster"), cluster.scheduler_address]) == 0
    assert contents(tmp_path / "out") == alone


def test_batches_under_way_are_bounded(client, place):
    detector, images, taken = Detector.load(place / "detector.npz"), list_images([place / "photographs"]), []

    def batches():
        for number in range(1000):
            taken.append(number)
            yield images[:1]

    rows, maps = next(on_cluster(client)(detector, batches(), False))
    assert rows[0].path == images[0].name and maps == [None]
    assert len(taken) == AHEAD * 2


def test_another_version_is_one_line(client, cluster, call, tmp_path, monkeypatch, capsys):
    found = client.get_versions(packages=SAME)
    list(found["workers"].values())[1]["packages"]["numpy"] = "1.0"
    monkeypatch.setattr(distributed.Client, "get_versions", lambda *_, **__: found)
    assert score.main(call(tmp_path / "out", "--quiet", "--cluster", cluster.scheduler_address)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "numpy 1.0" in told and np.__version__ in told and list(found["workers"])[1] in told


def test_where_no_scheduler_is_one_line_says_so(call, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mdps_ref.job.cluster.SECONDS_TO_CONNECT", 1)
    assert score.main(call(tmp_path / "out", "--quiet", "--cluster", "tcp://127.0.0.1:9")) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "tcp://127.0.0.1:9" in told and "dask scheduler" in told and not (tmp_path / "out").exists()


def test_ctrl_c_stops_local_workers_in_one_line_and_the_command_goes_on(call, alone, tmp_path, contents):
    """The terminal sends the signal to the command and to its workers."""
    command = [sys.executable, "-m", "mdps_ref.score", *call(tmp_path / "out", "--quiet", "--cluster", "local")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as stopped:
        while not (tmp_path / "out/scores.csv").exists() and stopped.poll() is None:
            time.sleep(0.01)
        os.killpg(stopped.pid, signal.SIGINT)
        told = stopped.stderr.read().decode()
    assert stopped.returncode == 130 and told.count("\n") == 1 and "--resume --cluster local" in told
    told = subprocess.run([*command, "--resume"], capture_output=True, timeout=300)
    assert (told.returncode, told.stderr) == (0, b"")
    assert contents(tmp_path / "out") == alone
