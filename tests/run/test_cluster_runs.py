"""Runs on a Dask cluster: their chains, or all of several runs, give the bytes of one process, whatever dies."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import strict_device

from mdps_ref import run
from mdps_ref.errors import InputError
from mdps_ref.job.chains import batch_maps
from mdps_ref.job.detect import detect, extractor_digest, make_model
from mdps_ref.job.interrupt import Interrupted, also_stopping_if, stop_if_asked
from mdps_ref.job.maps import Maps
from mdps_ref.job.run_folder import PLAN, WORK
from mdps_ref.nn.unet import init_unet
from mdps_ref.study.experiment import Experiment

cloudpickle = pytest.importorskip("cloudpickle")
distributed = pytest.importorskip("distributed", reason="Dask is not installed: the extra `cluster`")
from mdps_ref.job.cluster import Session, Work, check_extractor  # noqa: E402
from mdps_ref.job.cluster_chains import _model, chains_on_cluster  # noqa: E402
from mdps_ref.job.cluster_runs import KILLED, runs_on_cluster  # noqa: E402
from mdps_ref.job.cluster_scoring import _on_device  # noqa: E402

pytestmark = [pytest.mark.kernels_as_they_are, pytest.mark.filterwarnings("ignore")]  # of processes that die; the workers have the table
SAME_BYTES = ("config.json", "checkpoint.npz", "scores.csv", "metrics.json", "detector.npz", "data.json", "maps/")


@pytest.fixture(scope="module")
def arguments(place, tmp_path_factory):
    """arguments(out, *more): those of a run of two images a batch."""
    settings = tmp_path_factory.mktemp("settings") / "settings.json"
    settings.write_text(
        json.dumps(json.loads((place / "quick.json").read_text()) | {"samples": 8, "feature_distance": "mahalanobis", "guided_weight": 0.5})
    )
    quick = ["--data", place / "data", "--category", "part", "--config", settings]
    return lambda out, *more: [str(part) for part in (*quick, "--out", out, *more)]


@pytest.fixture(scope="module")
def results(contents):
    """results(folder): what is the same in all runs of these settings."""
    return lambda folder: {name: content for name, content in contents(folder).items() if name.startswith(SAME_BYTES)}


@pytest.fixture(scope="module")
def alone(arguments, results, tmp_path_factory):
    """What one process with one thread leaves."""
    out = tmp_path_factory.mktemp("alone") / "out"
    assert run.main(arguments(out, "--threads", "1")) == 0
    return results(out)


def test_a_run_has_the_bytes_of_one_process(arguments, alone, cluster, tmp_path, results, no_report):
    assert run.main(arguments(tmp_path / "out", "--cluster", cluster.scheduler_address, "--threads", "2")) == 0
    assert results(tmp_path / "out") == alone


def test_a_command_that_is_killed_in_a_chain_goes_on_to_the_same_bytes(arguments, alone, cluster, tmp_path, results, no_report):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mdps_ref.run", *arguments(out, "--cluster", cluster.scheduler_address)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as killed:
        while not list(out.glob(f"{WORK}/step_*/test/reconstruction-0.npz")) and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL and not (out / "metrics.json").exists()
    assert run.main(["--resume", "--out", str(out), "--cluster", cluster.scheduler_address]) == 0
    assert results(out) == alone


@pytest.fixture
def detected(quick_config, some_images):
    """detected(client, extractor): the Maps of MDPS of 6 images, in batches of two; without a client from this process."""
    config = quick_config(samples=8, image_score="max")
    weights, images = init_unet(config.unet()), some_images(6)

    def maps(client=None, extractor=None, **more):
        model = make_model(weights, config, extractor)
        cluster = {"make_maps": chains_on_cluster(client, batch_maps, weights, config, extractor, **more)} if client else {}
        return vars(detect(model, images, config, 0.1, **cluster).mdps)

    return maps


def deadly(once):
    """An extractor of features that kills its process; only the first one, if `once` is a path."""

    def features(images):
        if not (once and once.exists()):
            once and once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [images]

    return features


def test_a_worker_that_is_killed_in_a_chain_loses_nothing(cluster, client, detected, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 3)
    found, expected = detected(client, deadly(tmp_path / "killed")), detected(extractor=lambda images: [images])
    assert (tmp_path / "killed").exists()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_workers_that_are_killed_again_and_again_are_one_line(client, detected, fails_with):
    with fails_with("reconstruction chain", "memory", "--resume"):
        detected(client, deadly(None))


def versions(client, *left_out, **other):
    """What Client.get_versions gives, without the workers of some numbers, and with other versions of the last worker."""
    found = distributed.Client.get_versions(client, packages=["mdps_ref", "numpy", "scipy", "pillow"])
    addresses = list(client.nthreads())
    found["workers"][addresses[-1]]["packages"].update(other)
    return found | {"workers": {address: found["workers"][address] for n, address in enumerate(addresses) if n not in left_out}}


@pytest.fixture
def as_if(client, monkeypatch):
    """as_if(*found): these are the answers when versions are asked for."""

    def answers(*found):
        rest = list(found)
        monkeypatch.setattr(distributed.Client, "get_versions", lambda *_, **__: rest.pop(0) if len(rest) > 1 else rest[0])

    return answers


def meeting(client, folder):
    """In a new session, a function that gets six numbers from the workers: both have a task before one of them ends."""

    def meet(made, number):
        folder.mkdir(exist_ok=True)
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.01)
        return number

    session = Session(client, Work(lambda weights, xp: None, {}, 1, "numpy"))
    return lambda: [session.result(task) for _, task in session.in_order(range(6), lambda number: session.submit(meet, number))]


def test_the_versions_of_a_worker_that_comes_later_are_compared(client, as_if, fails_with, tmp_path):
    first, both, other = versions(client, 1), versions(client), versions(client, numpy="1.0")
    as_if(first, other)
    numbers = meeting(client, tmp_path / "a")
    with fails_with(list(client.nthreads())[1], "numpy 1.0", np.__version__):
        numbers()
    as_if(first, first, both)  # the worker had gone when its versions were asked for
    assert meeting(client, tmp_path / "b")() == list(range(6))


def test_what_lives_on_a_device_is_not_sent_to_other_workers():
    """A lock takes its place: it cannot be sent."""
    work = Work(lambda weights, xp: threading.Lock(), {"w": np.ones(2)}, 1, "numpy")
    assert work.made.acquire()
    sent = pickle.loads(cloudpickle.dumps(work))
    assert sent.weights["w"].sum() == 2 and sent.made.acquire(blocking=False)


def pretend(path):
    """What makes a worker believe that it has a GPU; and what takes that away, and counts the arrays that went there."""

    def begin():
        spec = importlib.util.spec_from_file_location("strict_device", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=lambda: 1))
        module.moved, move = [], module.asarray
        module.asarray = lambda array: module.moved.append(1) or move(array)
        sys.modules["strict_device"] = sys.modules["cupy"] = module

    def end():
        del sys.modules["cupy"]
        return len(sys.modules["strict_device"].moved)

    return begin, end


def test_a_worker_uses_the_device_that_it_finds_and_agrees_to_rounding(client, detected):
    with_device, (begin, end) = list(client.nthreads())[0], pretend(strict_device.__file__)
    client.run(begin, workers=[with_device])
    found = detected(client, backend="auto")
    assert client.run(end, workers=[with_device])[with_device] > 0
    expected = detected()
    for field in dataclasses.fields(Maps):
        np.testing.assert_allclose(found[field.name], expected[field.name], atol=1e-4, err_msg=field.name)


def test_the_samples_of_tuning_are_drawn_on_the_cluster(arguments, cluster, tmp_path, monkeypatch, no_report):
    compared = []

    def tune(model, weights, config, images, train_images, draw_batches):
        here, there = (Experiment(model, {}, images[:], *more).samples(config, "guided") for more in ([], [draw_batches]))
        np.testing.assert_array_equal(there, here)
        compared.append(here.shape[:2])
        return {}, [], ()

    monkeypatch.setattr(run, "tune", tune)
    assert run.main(arguments(tmp_path / "out", "--tune", "--quiet", "--cluster", cluster.scheduler_address)) == 0
    assert compared == [(1, 8)]


@pytest.fixture
def three(place, tmp_path):
    """A folder of two categories, another one whose images cannot be read, and a folder that is no category."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("one", "two"):
        (data / name).symlink_to(place / "data/part")
    for number in range(3):
        path = data / "spoilt/train/good" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    (data / "notes").mkdir()
    return data


def mended(place, data):
    """Replace the category that cannot be read."""
    for path in (data / "spoilt/train/good").iterdir():
        path.write_bytes((place / "data/part/train/good/000.png").read_bytes())


def test_all_categories_are_run_and_one_that_fails_stops_no_other(place, three, tmp_path, results, capsys, no_report):
    out, flags = tmp_path / "out", ["--config", str(place / "quick.json"), "--threads", "1", "--quiet"]
    assert run.main(["--data", str(three), "--category", "all", "--out", str(out), *flags]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "spoilt" in printed.err and "spoilt/train/good" in printed.err
    assert [line.split()[:2][-1] for line in printed.out.splitlines() if line.startswith("spoilt")] == ["failed"]
    rows = [line.split(",") for line in (out / "results.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["category", "one", "spoilt", "two"] and set(rows[2][1:]) == {""}
    metrics = json.loads((out / "two/metrics.json").read_text())["mdps"]
    assert float(rows[3][1]) == pytest.approx(metrics["image_auroc"], rel=1e-7)
    assert run.main(["--data", str(three), "--category", "two", "--out", str(tmp_path / "alone"), *flags]) == 0
    assert results(out / "two") == results(tmp_path / "alone")


def test_all_categories_go_on_with_those_that_have_not_ended(place, three, tmp_path, results, monkeypatch):
    """The report marks the end of a run."""
    monkeypatch.setattr(run, "write_report", lambda folder, result: (folder / "report.html").write_text(""))
    out, flags = tmp_path / "out", ["--config", str(place / "quick.json"), "--threads", "1", "--quiet"]
    assert run.main(["--data", str(three), "--category", "all", "--out", str(out), *flags]) == 2
    mended(place, three)
    done, ended = [], run.run_in
    monkeypatch.setattr(run, "run_in", lambda folder, *more: done.append(folder.name) or ended(folder, *more))
    assert run.main(["--category", "all", "--resume", "--out", str(out), "--threads", "1", "--quiet"]) == 0
    assert done == ["spoilt"]
    assert run.main(["--category", "all", "--resume", "--out", str(out), "--train-steps", "4", "--threads", "1", "--quiet"]) == 0
    assert done == ["spoilt", "one", "spoilt", "two"]


def test_all_categories_on_a_cluster_have_the_bytes_of_one_process(place, three, cluster, tmp_path, results, capsys, no_report):
    flags = ["--data", str(three), "--category", "all", "--config", str(place / "quick.json"), "--quiet"]
    assert run.main([*flags, "--out", str(tmp_path / "here"), "--threads", "1"]) == 2
    capsys.readouterr()
    assert run.main([*flags, "--out", str(tmp_path / "there"), "--cluster", cluster.scheduler_address]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for name in ("one", "two", "results.csv"):
        here, there = tmp_path / "here" / name, tmp_path / "there" / name
        assert results(here) == results(there) if here.is_dir() else here.read_bytes() == there.read_bytes()


REFUSED = {
    "a preset of one category": (
        ["--preset", "released/mvtec/bottle"],
        ["released/mvtec/bottle", "one category", "--preset released/mvtec,"],
    ),
    "a preset that there is not": (["--preset", "released/botle"], ["--preset released/botle is unknown", "released/mvtec"]),
    "a category without a preset": (
        ["--preset", "released/btad", "--data", "other"],
        ["'released/btad/nut' is unknown", "released/btad/03"],
    ),
    "no category": ([], ["data: holds no category"]),
    "a category that is called all": (["--data", "called"], ["called/all", "rename"]),
}


@pytest.mark.parametrize("flags, parts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_run_for_all_is_one_line(flags, parts, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data/notes", "other/nut/train", "called/all/train"):
        (tmp_path / name).mkdir(parents=True)
    assert run.main(["--data", "data", "--category", "all", *flags]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and all(part in told for part in parts) and not (tmp_path / "runs").exists()


def jobs(folder, *names):
    (folder / PLAN).touch()
    return [(name, None, folder / name) for name in names]


def dying():
    """A run in whose midst its process is killed: once; each time in the folder deadly."""

    def run_category(config, folder, xp):
        began = folder.with_suffix(".began").exists()
        folder.with_suffix(".began").touch()
        if not began or folder.name == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        if folder.name == "bad":
            raise InputError("no image")

    return run_category


def test_a_run_whose_worker_is_killed_goes_on_and_a_deadly_one_stops_no_other(cluster, client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 1)
    ended = dict(runs_on_cluster(client, dying())(jobs(tmp_path, "good", "deadly", "bad")))
    assert ended["good"] is None and ended["deadly"] == KILLED and "no image" in ended["bad"]


def endless():
    """A run that only stops if it is asked to."""

    def run_category(config, folder, xp):
        folder.with_suffix(".began").touch()
        try:
            while True:
                stop_if_asked()
                time.sleep(0.05)
        except Interrupted:
            folder.with_suffix(".stopped").touch()
            raise

    return run_category


def until(path):
    """Wait for a file."""
    while not path.exists():
        time.sleep(0.02)


def test_runs_stop_if_their_client_goes(cluster, tmp_path):
    """The client goes while it waits for the run, as after Ctrl-C."""
    with distributed.Client(cluster) as client:
        waiting = runs_on_cluster(client, endless())(jobs(tmp_path, "one"))
        with also_stopping_if((tmp_path / "one.began").exists), pytest.raises(Interrupted):
            next(waiting)
        assert not (tmp_path / "one.stopped").exists()
        del waiting
    until(tmp_path / "one.stopped")


def test_a_worker_that_does_not_see_the_folder_says_so(client, tmp_path):
    ended = dict(runs_on_cluster(client, endless())([("one", None, pathlib.Path("/nowhere/one"))]))
    assert "/nowhere" in ended["one"] and "--out" in ended["one"]


def test_a_worker_with_another_file_of_the_extractors_weights_is_told(tmp_path, quick_config, fails_with):
    file = tmp_path / "weights.npz"
    file.write_bytes(b"the client's")
    config = quick_config(features="mobilenet_v1", feature_weights=str(file))
    digest = extractor_digest(config)
    check_extractor(config, digest)
    file.write_bytes(b"the worker's")
    for make in (_model, lambda config, digest, *_: _on_device(types.SimpleNamespace(config=config), digest, {}, np)):
        with fails_with(str(file), "the same file"):
            make(config, digest, None, (), {}, np)
