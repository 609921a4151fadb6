"""A replayed network gives the same bytes as the same network run, whatever comes between its calls."""

import contextvars
import gc
import sys
import threading
import weakref

import numpy as np
import pytest

from mdps_ref.autograd import ops, tape
from mdps_ref.autograd.network import RUNNER, replayable, without_replays
from mdps_ref.autograd.tape import Tensor, pull_back, value_and_gradient
from mdps_ref.bench.weights import extractor_weights
from mdps_ref.kernels import fast, replay
from mdps_ref.nn.efficientnet import efficientnet_features
from mdps_ref.nn.mobilenet import mobilenet_features
from mdps_ref.nn.unet import UNetConfig, init_unet, unet
from mdps_ref.scoring.features import EXTRACTORS

pytestmark = pytest.mark.kernels_as_they_are
SMALL = UNetConfig(image_size=16, base_channels=16, multipliers=(1, 2), attention_sizes=(8,))
CALLS = 6  # the first computes, the second records, the third compares, later ones replay


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    return {name: w + rng.normal(0, 0.1, w.shape).astype(w.dtype) for name, w in init_unet(SMALL).items()}


def noisy(seed, count=2, size=16):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, size, size, 3), np.float32), rng.integers(0, 1000, count)


def computed(step):
    """step() without replays, but with the fast kernels."""
    with fast(), without_replays():
        return step()


def predict(weights, seed):
    return unet(weights, *noisy(seed), SMALL)


def guided(weights, seed):
    x, t = noisy(seed)
    wrapped = Tensor(x)
    eps = unet(weights, wrapped, t, SMALL)
    return [eps.value, *pull_back(eps, np.tanh(eps.value), [wrapped], last=True)]


def loss_and_gradient(weights, seed):
    x, t = noisy(seed)
    loss, gradient = value_and_gradient(lambda weights: ops.mean(unet(weights, x, t, SMALL) ** 2), weights)
    return [loss, *gradient.values()]


def assert_same(found, expected):
    for ours, wanted in zip(np.atleast_1d(found) if isinstance(found, np.ndarray) else found, expected, strict=True):
        np.testing.assert_array_equal(ours, wanted)


STEPS = {"prediction": predict, "guided step": guided, "training step": loss_and_gradient}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_call_gives_the_bytes_of_a_network_that_is_run_while_weights_and_images_change(step, weights):
    results, run = [], [{name: w.copy() for name, w in weights.items()} for _ in range(CALLS)]
    with fast():
        for seed in range(CALLS):
            results.append(step(weights, seed))
            for name, w in weights.items():
                run[seed][name][...] = w
                w += 0.01 * (seed + 1)
    for seed, (found, then) in enumerate(zip(results, run, strict=True)):
        assert_same(found, computed(lambda seed=seed, then=then: step(then, seed)))


def replayed():
    """Whether each network that this block of `fast` has seen is replayed by now."""
    return [kept._next is replay._Replay._replay for kept in RUNNER.get()._replays.values()]


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_unet_is_replayed(step, weights):
    with fast():
        for seed in range(CALLS):
            step(weights, seed)
        assert replayed() == [True]


@pytest.mark.parametrize(("name", "features"), [("efficientnet_lite0", efficientnet_features), ("mobilenet_v1", mobilenet_features)])
def test_a_frozen_network_is_replayed_and_gives_the_same_bytes(name, features):
    arrays, layers = extractor_weights(name), EXTRACTORS[name].layers
    batches = [noisy(seed, size=64)[0] for seed in range(CALLS)]
    with fast():
        results = [features(arrays, x, layers) for x in batches]
        assert replayed() == [True]
    for x, found in zip(batches, results, strict=True):
        assert_same(found, computed(lambda x=x: features(arrays, x, layers)))


def counting(layer):
    """A network of one layer, and a list that grows each time it is run."""
    runs = []

    @replayable
    def run(weights, *arrays, **settings):
        runs.append(settings)
        return layer(weights, *arrays, **settings)

    return run, runs


def squared(weights, x, *, power=2):
    return (x * weights["w"]) ** power


def wave(seed, shape=(4, 5)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_from_the_fourth_call_on_the_network_is_not_run():
    run, runs = counting(squared)
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(8):
            np.testing.assert_array_equal(run(weights, wave(seed)), squared(weights, wave(seed)))
    assert len(runs) == 3


def test_outside_of_fast_it_is_run_each_time():
    run, runs = counting(squared)
    for seed in range(5):
        run({"w": wave(9, (5,))}, wave(seed))
    assert len(runs) == 5


@pytest.mark.parametrize("change", ["shape", "dtype", "setting", "weights", "wrapping"])
def test_another_kind_of_call_is_a_network_of_its_own(change):
    run, runs = counting(squared)
    weights, x, settings = {"w": wave(9, (5,))}, wave(0), {}
    with fast():
        for _ in range(4):
            run(weights, x)
        if change == "shape":
            x = wave(1, (2, 5))
        elif change == "dtype":
            x = x.astype(np.float64)
        elif change == "setting":
            settings = {"power": 3}
        elif change == "weights":
            weights = {"w": wave(8, (5,))}
        wanted = squared(weights, x, **settings)
        for _ in range(4):
            found = run(weights, Tensor(x) if change == "wrapping" else x, **settings)
            np.testing.assert_array_equal(found.value if change == "wrapping" else found, wanted)
    assert len(runs) > 4


def test_a_result_is_not_written_to_by_the_next_call():
    run, _ = counting(squared)
    weights = {"w": wave(9, (5,))}
    with fast():
        results = [run(weights, wave(seed)) for seed in range(6)]
    for seed, found in enumerate(results):
        np.testing.assert_array_equal(found, squared(weights, wave(seed)))


def test_what_asks_for_a_number_is_run_each_time():
    run, runs = counting(lambda weights, x: x * weights["w"] if float(x.sum()) > 0 else -x)
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(8):
            x = wave(seed)
            np.testing.assert_array_equal(run(weights, x), x * weights["w"] if x.sum() > 0 else -x)
    assert len(runs) > 7


def test_what_escapes_the_recording_is_found_out_by_the_comparison():
    """The second factor is computed behind the recording's back; the recording takes it for a constant."""
    run, runs = counting(lambda weights, x: x * (x.view(np.ndarray) + 1.0))
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(8):
            np.testing.assert_array_equal(run(weights, wave(seed)), wave(seed) * (wave(seed) + 1.0))
    assert len(runs) > 7


def test_a_constant_is_found_out_though_the_first_images_are_alike():
    run, runs = counting(lambda weights, x: x * (np.array(x) + 1.0))
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in (0, 0, 0, 0, 1, 2):
            np.testing.assert_array_equal(run(weights, wave(seed)), wave(seed) * (wave(seed) + 1.0))


def test_images_that_stay_alike_are_replayed_too():
    run, runs = counting(squared)
    with fast():
        for _ in range(8):
            run({"w": WEIGHT}, wave(0))
        assert len(runs) <= 4 and replayed() == [True]


WEIGHT = wave(9, (5,))


def exponential(weights, x):
    return ops.exp(x * weights["w"])


def slope(x, g):
    """The cotangent of `exponential` that belongs to x."""
    return g * WEIGHT * np.exp(x * WEIGHT)


def warmed(run):
    """Call a network until it is replayed."""
    for seed in range(20, 24):
        x = Tensor(wave(seed))
        pull_back(run({"w": WEIGHT}, x), wave(7), [x], last=True)
    assert replayed() == [True]


def test_an_older_graph_can_be_pulled_back_again_while_newer_results_wait():
    run, _ = counting(exponential)
    with fast():
        warmed(run)
        tensors, outputs = [Tensor(wave(seed)) for seed in range(3)], []

        def check(at):
            (found,) = pull_back(outputs[at], wave(7), [tensors[at]])
            np.testing.assert_allclose(found, slope(tensors[at].value, wave(7)), rtol=1e-6)

        for x in tensors[:2]:
            outputs.append(run({"w": WEIGHT}, x))
            check(len(outputs) - 1)
        check(0)
        outputs.append(run({"w": WEIGHT}, tensors[2]))
        for at in (1, 0, 2, 1):
            check(at)


def test_many_cotangents_of_the_latest_result_are_replayed():
    run, runs = counting(exponential)
    with fast():
        warmed(run)
        before, x = len(runs), Tensor(wave(0))
        y = run({"w": WEIGHT}, x)
        for seed in range(5):
            (found,) = pull_back(y, wave(seed), [x])
            np.testing.assert_allclose(found, slope(x.value, wave(seed)), rtol=1e-6)
        assert len(runs) == before


def test_a_cotangent_of_another_precision_keeps_it():
    run, _ = counting(exponential)
    with fast():
        warmed(run)
        x, g = Tensor(wave(0)), wave(7).astype(np.float64)
        (found,) = pull_back(run({"w": WEIGHT}, x), g, [x])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, g * np.exp(x.value * WEIGHT) * WEIGHT)


def test_a_pullback_is_replayed_only_after_it_was_compared():
    """The pullback hides its cotangent from the recording; the third call, where that would be found out, is not pulled back."""

    @tape.primitive(lambda y, x: lambda g: 0 * x + np.array(g))
    def hidden(x):
        return 1.0 * x

    try:
        run, _ = counting(lambda weights, x: hidden(x * weights["w"]))
        with fast():
            for seed in range(8):
                x = Tensor(wave(seed))
                y = run({"w": WEIGHT}, x)
                if seed != 2:
                    (found,) = pull_back(y, wave(seed + 30), [x])
                    np.testing.assert_array_equal(found, wave(seed + 30) * WEIGHT)
    finally:
        del tape.PRIMITIVES["hidden"]


def test_recording_is_given_up_where_nobody_pulls_back():
    run, runs = counting(exponential)
    with fast():
        for seed in range(12):
            before = len(runs)
            run({"w": WEIGHT}, Tensor(wave(seed)))
        (kept,) = RUNNER.get()._replays.values()
        assert kept._program is None and len(runs) == before + 1


def test_a_replay_that_is_broken_off_leaves_no_result_with_the_wrong_memory():
    run, _ = counting(exponential)
    with fast():
        warmed(run)
        x = Tensor(wave(0))
        y = run({"w": WEIGHT}, x)
        pull_back(y, wave(7), [x])
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            run({"w": WEIGHT}, Tensor(wave(1) + 1e4 * np.sign(WEIGHT)))
        (found,) = pull_back(y, wave(7), [x])
    np.testing.assert_allclose(found, slope(x.value, wave(7)), rtol=1e-6)


def test_the_comparison_asks_nothing_that_the_network_refuses():
    """The same matrix each time is compared with its entries moved, and then has no inverse."""
    run, _ = counting(lambda weights, x: np.linalg.inv(x) @ weights["w"])
    weights = {"w": wave(9, (2, 3))}
    with fast():
        for _ in range(6):
            np.testing.assert_array_equal(run(weights, np.eye(2, dtype=np.float32)), weights["w"])


@pytest.mark.filterwarnings("error")
def test_the_comparison_warns_of_nothing_that_the_caller_did_not_give():
    run, _ = counting(lambda weights, x: np.log(x[:, 0]) * weights["w"])
    x, weights = np.array([[1, -1], [2, -1]], np.float32), {"w": wave(9, (2,))}
    with fast():
        for _ in range(6):
            np.testing.assert_array_equal(run(weights, x), np.log(x[:, 0]) * weights["w"])


def test_one_argument_that_stays_alike_hides_no_constant():
    run, _ = counting(lambda weights, x, t: x * weights["w"] + np.array(t))
    with fast():
        for seed, of_t in enumerate((0, 0, 0, 0, 1, 2)):
            x, t = wave(seed), wave(10 + of_t, (5,))
            np.testing.assert_array_equal(run({"w": WEIGHT}, x, t), x * WEIGHT + t)


def test_an_older_result_is_pulled_back_at_the_entries_that_it_had():
    run, _ = counting(exponential)
    with fast():
        warmed(run)
        x = wave(0)
        wrapped, kept = Tensor(x), x.copy()
        y = run({"w": WEIGHT}, wrapped)
        pull_back(y, wave(7), [wrapped])
        run({"w": WEIGHT}, Tensor(wave(1)))
        x[...] = 0
        (found,) = pull_back(y, wave(7), [wrapped])
    np.testing.assert_allclose(found, slope(kept, wave(7)), rtol=1e-6)


def test_networks_in_rotation_are_recorded_once():
    run, runs = counting(squared)
    rounds = []
    with fast():
        for _ in range(4):
            before = len(runs)
            for rows in range(1, replay.KEPT + 2):
                for seed in range(5):
                    run({"w": WEIGHT}, wave(seed, (rows, 5)))
            rounds.append(len(runs) - before)
    assert rounds[0] == 3 * (replay.KEPT + 1) and rounds[-1] == rounds[-2] == 5 * (replay.KEPT + 1)


def test_the_memory_of_all_recordings_together_is_bounded(monkeypatch):
    monkeypatch.setattr(replay, "MOST_MEMORY", 5_000)
    run, _ = counting(squared)
    with fast():
        for rows in (20, 40, 60):
            for seed in range(4):
                run({"w": WEIGHT}, wave(seed, (rows, 5)))
            kept = RUNNER.get()._replays.values()
            assert 0 < sum(one.memory for one in kept) <= 5_000
        assert len(kept) < 3


def test_a_setting_without_a_hash_is_no_obstacle():
    run, runs = counting(lambda weights, x, *, layers: [x * weights["w"] for _ in layers])
    with fast():
        for seed in range(6):
            np.testing.assert_array_equal(run({"w": WEIGHT}, wave(seed), layers=["a", "b"])[1], wave(seed) * WEIGHT)
    assert len(runs) == 6


def test_equal_settings_of_other_types_are_other_settings():
    run, _ = counting(lambda weights, x, *, factor: x * factor)
    with fast():
        for _ in range(5):
            assert run({"w": WEIGHT}, wave(0), factor=2.0).dtype == np.float32
        for _ in range(5):
            assert run({"w": WEIGHT}, wave(0), factor=np.float64(2)).dtype == np.float64


def test_another_layout_in_memory_gives_its_own_bits():
    def layer(weights, x):
        return (x @ weights["w"]).sum(axis=1) + x.sum(axis=1)

    run, _ = counting(layer)
    weights = {"w": wave(9, (50, 50))}
    with fast():
        for seed in range(6):
            x = wave(seed, (40, 50))
            for laid in (x, np.asfortranarray(x)):
                np.testing.assert_array_equal(run(weights, laid), layer(weights, laid))


ODD_RESULTS = {
    "a number": lambda weights, x: (x * weights["w"]).sum(),
    "a tuple": lambda weights, x: (x, x * weights["w"]),
    "part of it": lambda weights, x: np.add(x, weights["w"], where=x > 0, out=0.0 * x),
    "parts": lambda weights, x: np.split(x * weights["w"], [2], axis=-1)[1],
    "a copy into": lambda weights, x: x + copied_into(weights["w"]),
    "turned": lambda weights, x: (x * weights["w"]).T,
    "a cast without a copy": lambda weights, x: (x * weights["w"]).astype(np.float32, copy=False),
    "a shape in another order": lambda weights, x: (x * weights["w"]).reshape(2, 10, order="F"),
    "objects": lambda weights, x: ((x * weights["w"]).astype(object) + 1).astype(np.float32),
}


def copied_into(w):
    buffer = np.zeros(5, np.float32)
    np.copyto(buffer, w)
    return buffer


@pytest.mark.parametrize("layer", ODD_RESULTS.values(), ids=ODD_RESULTS)
def test_what_is_odd_comes_out_as_it_is_while_weights_change(layer):
    run, _ = counting(layer)
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(6):
            found, expected = run(weights, wave(seed)), layer(weights, wave(seed))
            assert type(found) is type(expected)
            for ours, wanted in zip(*((y if isinstance(y, tuple) else (y,)) for y in (found, expected)), strict=True):
                np.testing.assert_array_equal(ours, wanted)
                assert ours.strides == wanted.strides
            if seed > 2:
                weights["w"] += 1


def test_no_image_at_all_is_no_obstacle():
    run, _ = counting(lambda weights, x: x.reshape(-1) * 2.0)
    with fast():
        for _ in range(5):
            assert run({"w": WEIGHT}, np.zeros((0, 5), np.float32)).shape == (0,)


def test_without_replays_holds_where_fast_begins_inside():
    run, runs = counting(squared)
    with without_replays(), fast():
        for _ in range(6):
            run({"w": WEIGHT}, wave(0))
    assert len(runs) == 6


def test_two_results_can_wait_for_their_pullbacks():
    run, _ = counting(lambda weights, x: ops.exp(x * weights["w"]))
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(4):
            x = Tensor(wave(seed))
            pull_back(run(weights, x), wave(7), [x])
        tensors = [Tensor(wave(seed)) for seed in (10, 11, 12)]
        outputs = [run(weights, x) for x in tensors]
        found = [pull_back(y, wave(7), [x])[0] for x, y in zip(tensors, outputs, strict=True)]
    for x, cotangent in zip(tensors, found, strict=True):
        np.testing.assert_allclose(cotangent, wave(7) * weights["w"] * np.exp(x.value * weights["w"]), rtol=1e-6)


def test_the_same_graph_can_be_pulled_back_twice():
    run, _ = counting(lambda weights, x: ops.exp(x * weights["w"]))
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(5):
            x = Tensor(wave(seed))
            y = run(weights, x)
            for g in (wave(7), wave(8)):
                (found,) = pull_back(y, g, [x])
                np.testing.assert_allclose(found, g * weights["w"] * np.exp(x.value * weights["w"]), rtol=1e-6)


def test_a_result_whose_pullback_never_comes_holds_nothing_up():
    run, runs = counting(lambda weights, x: ops.exp(x * weights["w"]))
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(12):
            x = Tensor(wave(seed))
            y = run(weights, x)
            if seed % 2:
                pull_back(y, wave(7), [x], last=True)
            del y
    assert len(runs) < 8


def test_a_weight_that_is_not_used_has_a_gradient_of_zeros():
    run, runs = counting(squared)
    weights = {"w": wave(9, (5,)), "unused": wave(8, (3,))}
    with fast():
        for seed in range(5):
            x = wave(seed)
            _, gradient = value_and_gradient(lambda weights, x=x: ops.sum(run(weights, x)), weights)
            np.testing.assert_allclose(gradient["w"], (2 * x * x * weights["w"]).sum(axis=0), rtol=1e-5)
            np.testing.assert_array_equal(gradient["unused"], np.zeros(3))
    assert len(runs) == 3


def test_a_result_that_depends_on_nothing_wrapped_stays_an_array():
    run, _ = counting(lambda weights, x: 2.0 * weights["w"])
    weights = {"w": wave(9, (5,))}
    with fast():
        for seed in range(5):
            assert type(run(weights, Tensor(wave(seed)))) is np.ndarray


def test_a_failed_call_can_be_made_again():
    fails = []

    def layer(weights, x):
        if fails:
            raise KeyboardInterrupt
        return x * weights["w"]

    run, runs = counting(layer)
    weights = {"w": wave(9, (5,))}
    with fast():
        run(weights, wave(0))
        fails.append(True)
        with pytest.raises(KeyboardInterrupt):
            run(weights, wave(1))
        fails.clear()
        for seed in range(2, 8):
            np.testing.assert_array_equal(run(weights, wave(seed)), wave(seed) * weights["w"])
    assert len(runs) == 4


def test_threads_get_their_own_results():
    def layer(weights, x):
        for _ in range(10):
            x = np.tanh(x * weights["w"])
        return x

    run, _ = counting(layer)
    weights, wrong = {"w": 2 + wave(9, (64,))}, []
    images = [wave(seed, (64, 64)) for seed in range(8)]
    expected = [layer(weights, x) for x in images]

    def work(mine):
        for _ in range(100):
            wrong.extend(at for at in mine if not np.array_equal(run(weights, images[at]), expected[at]))

    with fast():
        sys.setswitchinterval(1e-5)  # `fast` sets its own, and restores the earlier one
        threads = [threading.Thread(target=contextvars.copy_context().run, args=(work, (at, at + 4))) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_large_images_and_a_fifth_network_are_not_kept():
    run, runs = counting(squared)
    weights = {"w": wave(9, (5,))}
    with fast():
        for _ in range(5):
            run(weights, wave(0, (replay.LARGEST // 5 + 1, 5)))
        assert len(runs) == 5 and not RUNNER.get()._replays
        for _ in range(5):
            for rows in range(1, replay.KEPT + 2):
                run(weights, wave(rows, (rows, 5)))
        assert len(RUNNER.get()._replays) == replay.KEPT


def test_the_memory_is_freed_with_the_block():
    run, _ = counting(lambda weights, x: ops.exp(x * weights["w"]))
    weights = {"w": wave(9, (5,))}
    gc.disable()
    try:
        with fast():
            for seed in range(5):
                x = Tensor(wave(seed))
                pull_back(run(weights, x), wave(7), [x], last=True)
            (kept,) = RUNNER.get()._replays.values()
            alive = weakref.ref(kept), weakref.ref(kept._program._recording)
            del kept, x
        assert [reference() for reference in alive] == [None, None]
    finally:
        gc.enable()
