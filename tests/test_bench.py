"""The bench: its table on rows that take a moment, its arithmetic, and what it says when it cannot run."""

import functools
import importlib
import itertools
import json
import multiprocessing

import numpy as np
import pytest

from mdps_ref.autograd.tape import REPLACEMENTS
from mdps_ref.bench import __main__ as bench
from mdps_ref.bench import rows, timing
from mdps_ref.bench.rows import Row, convolution_shapes, unet_flops
from mdps_ref.nn.unet import NETWORKS, UNetConfig, init_unet


@pytest.fixture
def quick(monkeypatch):
    """Two rows and one growth that take a moment, each measured on small budgets."""
    for name in ("BUDGET", "PAUSE", "TURN"):
        monkeypatch.setattr(timing, name, 0.0)
    table = [Row("conv forward", "convolution", (1, 8, 2, 3), 18 * 8 * 8 * 2 * 3), Row("scoring", "scoring", (1, 16))]
    monkeypatch.setattr(rows, "rows", lambda: table)
    monkeypatch.setattr(bench, "GROWTHS", {"growth with nothing": (lambda size: lambda: None, (1, 2))})


def test_it_prints_and_writes_every_row_on_one_thread_and_on_all(quick, tmp_path, capsys):
    assert bench.main(["--json", str(tmp_path / "bench.json")]) == 0
    results = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert {row["name"] for row in results["rows"]} == {"conv forward", "scoring"}
    assert {str(row["threads"]) for row in results["rows"]} == set(results["peak_gflops"])
    for row in results["rows"]:
        assert row["seconds"] > 0 and row["mib"] >= 0 and row["their_seconds"] is None
        assert f"{1000 * row['seconds']:.2f}" in printed
    assert set(results["exponents"]) == {"growth with nothing"}


@pytest.mark.parametrize("seconds, side", [(0.0005, 2048), (0.0025, 1024), (0.02, 512), (1.0, 256)])
def test_the_large_product_is_smaller_where_it_would_take_seconds(monkeypatch, seconds, side):
    """A product of 256 x 256 takes `seconds`; one of twice the side, eight times as long; all take at most half a second but the last."""
    clock = itertools.count(0.0, seconds)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.large_side() == side


def test_only_some_rows_and_the_kernels_that_it_measures(quick, capsys):
    """Half the speed is lost where a variable holds BLAS to an old processor's kernels."""
    assert bench.main(["--only", "scor"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"NumPy's BLAS: {timing.blas()}\n")
    assert "scoring" in printed and "conv" not in printed and "growth" not in printed


def test_a_row_that_is_not_there_is_one_line(quick, capsys):
    assert bench.main(["--only", "warp drive"]) == 2
    assert "warp drive" in (error := capsys.readouterr().err) and "conv forward" in error and error.count("\n") == 1


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(quick, capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(bench, "measured", lambda *_: pytest.fail("measured first"))
    assert bench.main(["--json", str(tmp_path / "file" / "bench.json")]) == 2
    assert "bench.json" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_an_earlier_run_is_compared_row_by_row(quick, capsys, tmp_path):
    path = tmp_path / "old.json"
    assert bench.main(["--json", str(path)]) == 0
    old = json.loads(path.read_text(encoding="utf-8"))
    for row in old["rows"]:
        row["seconds"] = 1000.0
    path.write_text(json.dumps(old), encoding="utf-8")
    capsys.readouterr()
    assert bench.main(["--compare", str(path), "--only", "scor"]) == 0
    (line,) = (text for text in capsys.readouterr().out.splitlines() if "than then" in text and text.split()[1] == "1")
    assert line.startswith("scoring") and float(line.rpartition(", ")[2].split()[0]) > 1000


@pytest.mark.parametrize("content", [None, "", "{}", '{"rows": [1]}', "[]"])
def test_a_file_of_something_else_is_not_compared(quick, tmp_path, content, capsys):
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert bench.main(["--compare", str(path)]) == 2
    assert "old.json" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_the_quick_rows_are_whole_networks_without_memory(quick, capsys, monkeypatch, tmp_path):
    table = [Row("conv forward", "convolution", (1, 8, 2, 3)), Row("UNet forward, nothing", "scoring", (1, 16))]
    monkeypatch.setattr(rows, "rows", lambda: table)
    assert bench.main(["--quick", "--json", str(tmp_path / "b.json")]) == 0
    results = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in results["rows"]} == {"UNet forward, nothing"} and not results["exponents"]
    assert all(row["mib"] is None for row in results["rows"])


def test_without_pytorch_it_says_so(quick, capsys, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(importlib, "import_module", missing)
    assert bench.main(["--against", "torch"]) == 2
    assert "install PyTorch" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_the_other_side_is_timed_in_turns(monkeypatch):
    """Ours takes 1, 3, 1, 3 ... seconds a turn on a pretend clock, theirs twice as long just after: the ratio is 2, noise or not."""
    clock, lengths = [0.0], [1.0, 3.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    turns = []

    def ours():
        clock[0] += lengths[0]

    def theirs():
        clock[0] += 2 * lengths[0]
        turns.append(theirs)
        if len(turns) % 2 == 0:  # the first call of a turn is not counted, the second is long enough
            lengths.reverse()

    assert timing.in_turns(ours, theirs)[2] == 2.0


def test_our_turns_run_inside_fast_and_theirs_do_not(quick):
    seen = {"ours": set(), "theirs": set()}
    timing.in_turns(*(functools.partial(lambda side: seen[side].add(REPLACEMENTS.get() is not None), side) for side in seen))
    assert seen == {"ours": {True}, "theirs": {False}}


def test_a_turn_lasts_and_its_first_call_is_not_counted(monkeypatch):
    """On a pretend clock: a first call that takes 5 seconds, then calls of a quarter of one; a turn of two seconds has eight of them."""
    clock, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setattr(timing, "TURN", 2.0)

    def call():
        clock[0] += 0.25 if calls else 5.0
        calls.append(clock[0])

    assert timing.timed(call) == 0.25 and len(calls) == 9


def test_the_summary_tells_median_and_least():
    def result(name, arguments, ratio, threads=2):
        return {"name": name, "arguments": arguments, "times_faster": ratio, "threads": threads}

    results = [result(f"conv forward 1x8x{c}x{c}", (1, 8, c, c), c / 2) for c in (2, 4, 8)]
    results += [
        result("conv forward 1x8x3x4", (1, 8, 3, 4), 0.1),
        result("conv forward 16x8x5x5", (16, 8, 5, 5), None),
        result("scoring", (), 1.0),
    ]
    (line,) = bench.summary(results)
    assert "conv forward, all of released" in line and "median 2.00, least 1.00 at 1x8x2x2" in line


def test_an_exponent_is_found(monkeypatch):
    monkeypatch.setattr(timing, "timed", lambda call: call())
    assert timing.growth(lambda size: lambda: 5e-3 * size**1.5, (2, 4, 16)) == pytest.approx(1.5)


def large_array():
    """A call that needs 64 MiB."""
    return lambda: np.ones(2**23)


def test_memory_is_that_of_a_process_of_its_own():
    ballast = np.ones(2**25)
    used = timing.peak_memory(large_array)
    assert used is None or 60 < used < 140 < ballast.nbytes / 2**20


def test_without_a_second_process_it_says_so_and_measures_the_rest(quick, monkeypatch, capsys):
    """As in a browser."""

    def start(self):
        raise OSError("no processes here")

    assert timing.starts_processes()
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start)
    monkeypatch.setattr(bench, "CORES", 1)
    assert bench.main([]) == 0
    printed = capsys.readouterr().out
    assert "no second process" in printed and "one thread" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("scoring")]
    assert row.split()[1] == "1" and row.split()[-2:] == ["-", "-"]


def test_the_operations_of_the_released_network():
    assert unet_flops(NETWORKS["released"]) == pytest.approx(142.5e9, rel=1e-3)


def test_the_shapes_are_those_of_its_kernels():
    config = UNetConfig(image_size=16, base_channels=8, multipliers=(1, 2), blocks=2, attention_sizes=(), heads=1, groups=2)
    kernels = {w.shape[2:] for w in init_unet(config).values() if w.ndim == 4}
    shapes = convolution_shapes(config)
    assert {shape[1:] for shape in shapes} == kernels and {side for side, _, _ in shapes} == {16, 8}


SETUPS = {
    "convolution": (1, 8, 2, 3),
    "convolution_to_input": (1, 8, 2, 3),
    "convolution_to_kernel": (1, 8, 2, 3),
    "normalisation": (1, 8, 32),
    "normalisation_pullback": (1, 8, 32),
    "attention": (1, 4, 8),
    "attention_pullback": (1, 4, 8),
    "network": ("tiny", 1),
    "guided_step": ("tiny", 1),
    "scoring": (1, 16),
}


def test_every_kind_of_row_has_its_setup():
    kinds = {row.setup for row in rows.rows()}
    assert kinds == SETUPS.keys() | {"training", "guided_and_mdps", "features"} and all(hasattr(rows, kind) for kind in kinds)


EXTRACTED = {"efficientnet_lite0": (40, 112), "mobilenet_v1": (256, 512), "wide_resnet101_2": (512, 1024)}  # channels, as published


@pytest.mark.parametrize("name", EXTRACTED)
def test_the_features_are_those_of_the_whole_networks(name):
    """At an eighth and a sixteenth of the image's side, of every image, and far from where numbers become denormal, and slow."""
    (layers,) = rows.features(name, 2, 32)()
    assert [layer.shape for layer in layers] == [(2, 4, 4, EXTRACTED[name][0]), (2, 2, 2, EXTRACTED[name][1])]
    assert all(1e-6 < layer.std() < 1e6 for layer in layers)


@pytest.mark.parametrize("setup", SETUPS)
def test_every_setup_runs(setup):
    assert getattr(rows, setup)(*SETUPS[setup])() is not None


def test_the_growths_run():
    """Sampling with as many steps as asked for."""
    scores = rows.guided_and_mdps(16, 1, network="tiny", samples=1, guided_start=39, mdps_start=39)()[1]
    assert scores.shape == (1,)


COMPARED = [
    *((setup, arguments) for setup, arguments in SETUPS.items() if setup != "scoring"),
    *(("features", (name, 2, 32)) for name in EXTRACTED),
]


@pytest.mark.parametrize(("setup", "arguments"), COMPARED)
def test_pytorch_computes_the_same(setup, arguments):
    """Where it is installed; the project does not need it."""
    pytest.importorskip("torch", reason="PyTorch is not installed; only the bench compares with it", exc_type=ImportError)
    twins = importlib.import_module("mdps_ref.bench.torch_twins")
    ours, theirs = (flat(getattr(side, setup)(*arguments)()) for side in (rows, twins))
    assert abs(ours - theirs).max() < 1e-4 * abs(theirs).max()


def flat(result):
    """The numbers of a result, image layouts brought to ours."""
    if isinstance(result, tuple | list):
        result = [part for part in result if part is not None]
        return np.concatenate([flat(part) for part in (result[:1] if hasattr(result[0], "ndim") and len(result) == 3 else result)])
    array = np.asarray(result)
    if not isinstance(result, np.ndarray):
        array = np.moveaxis(array, (2, 3, 1, 0), (0, 1, 2, 3)) if array.shape[2:] == (3, 3) else np.moveaxis(array, 1, -1)
    return array.ravel()
