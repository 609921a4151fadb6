"""What the bench counts: where a step's time goes, what more cores would give, and how often the network is run."""

import itertools
import json
import math

import numpy as np
import pytest
from PIL import Image

from mdps_ref.autograd.norm import group_norm_silu
from mdps_ref.autograd.tape import REPLACEMENTS
from mdps_ref.bench import __main__ as bench
from mdps_ref.bench import figures, passes, profile, rows, scaling
from mdps_ref.diffusion.schedule import visited_timesteps
from mdps_ref.job.detect import Model, detect
from mdps_ref.kernels import fast, threads
from mdps_ref.kernels.replay import CALLS_BEFORE
from mdps_ref.released.chain import released_timesteps
from mdps_ref.released.presets import PRESETS


def ticking(times):
    """A pretend clock: now() -> the next of these times."""
    return iter(times).__next__


def test_a_moment_is_charged_to_the_innermost_of_what_runs():
    """Outside 1 s, in a norm 2, in a product that the norm calls 4, in the norm again 8, outside 16."""
    clock = profile.Clock(ticking(itertools.accumulate([0, 1, 2, 4, 8, 16])))
    product = clock.timed(lambda: "product", "products")
    assert clock.timed(lambda: product() + " in a norm", "norms")() == "product in a norm"
    assert clock.stop() == {"rest": 17, "norms": 10, "products": 4}


def test_an_error_ends_what_was_running():
    clock = profile.Clock(ticking(itertools.accumulate([0, 1, 2, 4])))
    with pytest.raises(ZeroDivisionError):
        clock.timed(lambda: 1 / 0, "norms")()
    assert clock.stop() == {"rest": 5, "norms": 2}


def test_the_parts_add_up_to_the_whole(monkeypatch):
    """Of a real step, on a clock that ticks once each time it is read: no moment is lost, and none is charged twice."""
    ticks = itertools.count()
    clock = profile.Clock(ticks.__next__)
    with fast(threads=1), profile.profiled(clock):
        rows.guided_step("tiny", 1)()
    parts = clock.stop()
    assert sum(parts.values()) == next(ticks) - 1
    assert min(parts[kind] for kind in ("products", "norms", "copies", "rest")) > 0


@pytest.mark.parametrize(("setup", "arguments"), [("guided_step", ("tiny", 1)), ("normalisation_pullback", (1, 8, 32))])
def test_a_profiled_step_computes_the_same_and_leaves_nothing_behind(setup, arguments):
    before = [getattr(place, name) for place, name, _ in profile.FUNCTIONS]
    with fast(threads=1):
        replace, plain = REPLACEMENTS.get(), getattr(rows, setup)(*arguments)()
        with profile.profiled(profile.Clock()):
            timed = getattr(rows, setup)(*arguments)()
        assert REPLACEMENTS.get() is replace
    assert np.array_equal(plain, timed)
    assert before == [getattr(place, name) for place, name, _ in profile.FUNCTIONS]


def test_a_twin_is_charged_forward_and_back():
    """On a clock that ticks once each time it is read, a call that calls no other timed function takes a tick."""
    x, one = rows.normal(1, 8, 8, 32), np.ones(32, np.float32)
    for calls, seconds in ((1, {"norms": 1, "rest": 2}), (2, {"norms": 2, "rest": 3})):
        clock = profile.Clock(itertools.count().__next__)
        with fast(threads=1), profile.profiled(clock):
            if calls == 1:
                group_norm_silu(x, one, one, groups=8)
            else:
                rows.pullback(group_norm_silu, x, x, one, one, groups=8)()
        assert clock.stop() == seconds


def test_the_bar_has_a_letter_for_each_fortieth():
    seconds = dict.fromkeys(profile.KINDS, 0.0) | {"products": 0.02, "rest": 0.06}
    assert [*profile.lines("a step", seconds)] == ["a step: 80.0 ms", "  " + 10 * "p" + 30 * "r", "  products 25%, rest 75%"]


def test_profiles_are_printed_drawn_and_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(profile, "BUDGET", 0.0)
    arguments = ["--profile", str(tmp_path / "p.png"), "--json", str(tmp_path / "p.json"), "--only", "guided step, tiny, 1 "]
    assert bench.main(arguments) == 0
    found = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert [*found] == ["guided step, tiny, 1 x 32 x 32"] and found[next(iter(found))].keys() == profile.KINDS.keys()
    with Image.open(tmp_path / "p.png") as drawn:
        assert drawn.width > 1000 and "p.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "p.png", "--quick"],
        ["--passes", "--against", "torch"],
        ["--scaling", "--only", "warp"],
        ["--passes", "--only", "released"],
    ],
)
def test_what_does_not_fit_together_is_one_line(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert bench.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
@pytest.mark.parametrize("parts", [[1.0] * 7, [5.0, 1.0, 1.0, 1.0], [0.3, 0.1, 0.4, 0.1, 0.5]], ids=len)
def test_the_busiest_thread_has_at_least_its_share_and_at_least_the_longest_part(parts, cores):
    busiest = scaling.busiest_thread(parts, cores)
    assert max(max(parts), math.fsum(parts) / cores) <= busiest + 1e-12 and busiest <= math.fsum(parts) + 1e-12
    if len({*parts}) == 1:
        assert busiest == -(-len(parts) // cores) * parts[0]


def test_the_prediction_is_amdahls_where_pieces_are_even():
    """Two operations of 16 even parts, 8 s each, and 4 s beside them; without a price of hand-overs the speed is 20 / (4 + 16 / n)."""
    for count in scaling.predicted(20.0, [[0.5] * 16, [0.5] * 16], 0.0):
        assert count == (count.cores, 2 * (count.cores - 1), 1 / count.cores, 0.2, 20 / (4 + 16 / count.cores))
    (two,) = (count for count in scaling.predicted(20.0, [[0.5] * 16, [0.5] * 16], 0.25) if count.cores == 2)
    assert two.speed == 20 / (4 + 8 + 2 * 0.25)


def test_the_pieces_of_an_operation_are_all_recorded_and_add_up(monkeypatch):
    """Of a normalisation the last of three passes is worth sharing. On a clock that ticks at each reading, each of its blocks takes one."""
    monkeypatch.setattr(scaling.time, "thread_time", itertools.count().__next__)
    x = rows.normal(2, 128, 128, 64)
    with fast(threads=1):
        plain = group_norm_silu(x, np.ones(64, np.float32), np.zeros(64, np.float32), groups=8)
        with scaling.recorded() as shared:
            recorded = group_norm_silu(x, np.ones(64, np.float32), np.zeros(64, np.float32), groups=8)
    blocks = x.size // 2**17
    assert (plain == recorded).all() and shared == [[1] * blocks]


def test_what_is_not_worth_sharing_stays_with_the_caller():
    with fast(threads=1), scaling.recorded() as shared:
        group_norm_silu(rows.normal(1, 8, 8, 32), np.ones(32, np.float32), np.zeros(32, np.float32), groups=8)
        scaling.blocks.in_threads(list, range(3), 2 * threads.WORTH_SHARING)
        scaling.blocks.in_threads(list, range(1), 2 * threads.WORTH_SHARING)
    assert [len(parts) for parts in shared] == [3]


def test_a_team_is_counted_by_its_images(monkeypatch):
    """Of 5 images the busiest of 2, 4 and 5 processes has 3, 2 and 1. An image takes a second; what only the caller does, one more."""
    shares = {1: 5, 2: 2, 4: 1, 5: 1}  # images of the caller's share
    monkeypatch.setattr(scaling, "team_seconds", lambda _, members: (1.0, float(shares[members])))
    counts = {count.cores: count for count in scaling.team_counts(None, 5)}
    assert counts[2] == (2, 1, 3 / 5, 1 / 6, 6 / 4) and counts[4][:3] == (4, 3, 2 / 5) and counts[16] == (16, 4, 1 / 5, 1 / 6, 3.0)
    assert all(count.largest >= 1 / count.cores for count in counts.values())


def test_more_processes_than_cores_are_really_started(monkeypatch):
    """The caller's share of the work falls with the number of processes; the rest is its own."""
    monkeypatch.setattr(scaling, "CALLS", 2)
    sizes = []

    def make_call():
        return rows.shared_by_image(lambda part: sizes.append(part.stop - part.start), 8)

    for members in (1, 4):
        serial, share = scaling.team_seconds(make_call, members)
        assert serial > 0 and share >= 0
    assert sizes == [8] * (CALLS_BEFORE + 2) + [2] * (CALLS_BEFORE + 2)


def test_each_number_of_threads_is_measured_with_that_many():
    """On one image the threads of `fast` are the network's own; a team that was made for one thread would keep it to one."""
    limits = []
    call = rows.shared_by_image(lambda part: limits.append(threads.LIMIT.get()), 1)
    for limit in (1, 3, 1):
        token = threads.LIMIT.set(limit)
        call()
        threads.LIMIT.reset(token)
    assert limits == [1, 3, 1]


def test_scaling_is_printed_drawn_and_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(scaling, "CALLS", 1)
    monkeypatch.setattr(scaling, "CORES", (1, 2))
    arguments = ["--scaling", str(tmp_path / "s.png"), "--json", str(tmp_path / "s.json"), "--only", "training step, tiny"]
    assert bench.main(arguments) == 0
    (counts,) = json.loads((tmp_path / "s.json").read_text(encoding="utf-8")).values()
    assert [count["cores"] for count in counts] == [1, 2] and counts[0]["speed"] == counts[0]["largest"] == 1.0
    with Image.open(tmp_path / "s.png") as drawn:
        assert drawn.width > 1000 and "s.png" in capsys.readouterr().out


def test_without_forks_nothing_is_counted(monkeypatch, capsys, tmp_path):
    """As on macOS."""
    monkeypatch.setattr(scaling, "CAN_FORK", False)
    assert bench.main(["--scaling", str(tmp_path / "s.png")]) == 2
    assert "Linux" in (error := capsys.readouterr().err) and error.count("\n") == 1 and not [*tmp_path.iterdir()]


def test_every_kind_has_its_colour():
    assert figures.COLOURS.keys() == profile.KINDS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_the_passes_of_an_image_are_those_of_two_stages(name):
    """A step is one forward pass, and a pullback where it is guided; the chains are those of the settings, and an empty mask has none."""
    preset = PRESETS[name]
    stages = [(preset.mdps_start, preset.mdps_weight)]
    if preset.mask_lambda is not None:
        stages = [(preset.guided_start, preset.guided_weight), *stages]

    def counted(stages, timesteps):
        steps = [(len(timesteps(start, 20)) - 1, weight) for start, weight in stages]
        return sum(n for n, _ in steps), sum(n for n, weight in steps if weight)

    assert passes.ours(name, True) == counted(stages, visited_timesteps)
    assert passes.ours(name, False) == counted(stages[:1], visited_timesteps)
    forward, pullbacks = counted(stages, released_timesteps)
    assert passes.authors(name) == (forward + pullbacks, pullbacks)
    assert sum(passes.ours(name, True)) < sum(passes.authors(name))


def test_the_reconstruction_chain_is_run_for_an_evaluation_alone(monkeypatch):
    """`detect` compares three chains; scoring an image runs two."""
    network, given = passes.CountingNetwork(), []
    monkeypatch.setattr(passes, "guided_and_mdps", lambda *args: given.append(args))
    passes.ours("released/mvtec/bottle", True)
    ((model, images, config, _),) = given
    monkeypatch.undo()
    detect(Model(network, model.features, np), images, config, threshold=-np.inf)
    scored = passes.ours("released/mvtec/bottle", True)
    assert (network.forward - scored.forward, network.pullbacks - scored.pullbacks) == (len(visited_timesteps(200, 20)) - 1, 0)


def test_the_table_of_passes_has_a_line_for_each_setting(capsys):
    assert bench.main(["--passes"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + len(PRESETS) and printed[1].split()[:4] == ["released/mvtec/bottle", "22", "+", "22"]
