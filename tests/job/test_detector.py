"""What a script calls: a detector that scores arrays, arrays that would score wrongly, and an extractor made once."""

import dataclasses
import errno
import os

import numpy as np
import pytest

import mdps_ref
from mdps_ref.autograd.norm import group_norm_silu
from mdps_ref.data import files
from mdps_ref.job import detect
from mdps_ref.job.detector import Detector
from mdps_ref.kernels import table
from mdps_ref.nn.unet import init_unet
from mdps_ref.scoring.image_score import IMAGE_SCORES
from mdps_ref.weights import checkpoint
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def images(some_images):
    return some_images(5)


@pytest.fixture(scope="module")
def weights(quick_config):
    return {name: w + np.float32(0.03) for name, w in init_unet(quick_config().unet()).items()}


@pytest.fixture(scope="module")
def detector(weights, images, quick_config):
    return mdps_ref.Detector.calibrated(weights, images, quick_config())


def test_a_detector_gives_what_calibrate_and_detect_give(detector, weights, images, quick_config):
    config = quick_config()
    model = detect.make_model(weights, config)
    threshold, scores = detect.calibrate(model, images, config)
    found = detect.detect(model, images, config, threshold).mdps
    ours = detector.score(images)
    assert detector.mask_threshold == threshold
    for name in ("score", "anomaly", "spread", "suspected", "x_0"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(found, name))
    np.testing.assert_array_equal(ours.flagged, scores > np.float64(detector.decision_threshold))
    assert ours.flagged.dtype == ours.suspected.dtype == bool


def test_a_detector_compares_what_your_extractor_finds(weights, images, quick_config):
    dull = mdps_ref.Detector.calibrated(weights, images, quick_config(pixel_weight=0.0), features=lambda images: [0 * images + 1])
    assert dull.mask_threshold == dull.decision_threshold == 0 and not dull.score(images).anomaly.any()


def calls(detector, images):
    """Every call from Python that takes images."""
    model, config = detector.model, detector.config
    return (
        lambda: detector.score(images),
        lambda: mdps_ref.Detector.calibrated(detector.weights, images, config),
        lambda: detect.calibrate(model, images, config),
        lambda: detect.detect(model, images, config, 0.5),
        lambda: mdps_ref.train(config, images),
    )


def test_every_call_enters_the_fast_kernels(detector, images, monkeypatch):
    asked = []
    monkeypatch.setitem(table.TABLE, group_norm_silu, (table.Twin(lambda *_, **__: asked.append(1), None),))
    for number, call in enumerate(calls(detector, images)):
        asked.clear()
        call()
        assert asked, number


WRONG = {
    "0 .. 255": (lambda images: (images + 1) * 127.5, "127.5"),
    "uint8": (lambda images: ((images + 1) * 127.5).astype(np.uint8), "127.5"),
    "no batch axis": (lambda images: images[0], "images[None]"),
    "half a picture": (lambda images: images[:, :8], "16"),
    "grey": (lambda images: images[..., :1], "3"),
    "nan": (lambda images: images * np.nan, "nan"),
    "a list": (list, "NumPy"),
    "none": (lambda images: images[:0], "at least one"),
}


@pytest.mark.parametrize("change, says", WRONG.values(), ids=WRONG)
def test_images_that_would_score_wrongly_are_refused(change, says, detector, images, fails_with):
    for call in calls(detector, change(images)):
        with fails_with(says):
            call()


def test_images_of_float64_score_as_those_of_float32(detector, images):
    np.testing.assert_array_equal(detector.score(images.astype(np.float64)).score, detector.score(images).score)


def test_training_without_a_folder_writes_nothing(tmp_path, monkeypatch, images, quick_config):
    monkeypatch.chdir(tmp_path)
    assert mdps_ref.train(quick_config(), images).step == 3 and not list(tmp_path.iterdir())


def test_features_are_made_as_the_settings_say_and_once(weights, quick_config, monkeypatch):
    made = []
    monkeypatch.setattr(detect, "make_features", lambda *what: made.append(what) or (lambda images: [images]))
    assert detect.make_extractor(quick_config(), np) is None and not made
    config = quick_config(features="resnet18", feature_weights="r.pth", feature_layers="layer1,layer3", feature_size=96)
    extractor = detect.make_extractor(config, np)
    assert made == [("resnet18", "r.pth", "layer1,layer3", np, 96)]
    assert detect.make_model(weights, config, extractor).features is extractor and len(made) == 1
    assert detect.make_model(weights, config).features("y") == ["y"] and len(made) == 2


# In a file


@pytest.fixture
def saved(tmp_path, quick_config):
    """A detector and the file that it was saved in."""
    detector = Detector(init_unet(quick_config().unet()), quick_config(data="mine", samples=2), 0.02, 0.3, white=4095, judged_side=9)
    detector.save(tmp_path / "detector.npz", {"images": 3})
    return detector, tmp_path / "detector.npz"


def test_a_saved_detector_scores_as_before_and_tells_nothing_of_the_runs_folders(saved, some_images):
    detector, path = saved
    for loaded in (Detector.load(path), Detector.load(path.parent)):
        assert (loaded.mask_threshold, loaded.decision_threshold, loaded.white, loaded.judged_side) == (0.02, 0.3, 4095, 9)
        assert loaded.config == dataclasses.replace(detector.config, data="")
        for name, array in vars(detector.score(some_images(2))).items():
            np.testing.assert_array_equal(getattr(loaded.score(some_images(2)), name), array)


NUMBERS = {"mask_threshold": 0.1, "decision_threshold": 0.1, "white": None, "judged_side": None}
WRONG = {
    "no threshold": {"detector": {name: value for name, value in NUMBERS.items() if name != "decision_threshold"}},
    "a threshold that is no number": {"detector": NUMBERS | {"decision_threshold": True}},
    "no mask's threshold": {"detector": NUMBERS | {"mask_threshold": None}},
    "a text": {"detector": NUMBERS | {"decision_threshold": "0.1"}},
    "a centre that is larger than the image": {"detector": NUMBERS | {"judged_side": 17}},
    "a float": {"detector": NUMBERS | {"judged_side": 9.0}},
    "no settings": {"config": None},
    "a setting that is none": {"config": {"sampels": 3}},
    "another network": {"config": {"network": "small"}},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_file_that_does_not_fit_together_is_one_line_that_names_it(change, saved, fails_with):
    groups, about = load_checkpoint(saved[1])
    settings = change.get("config", {})
    change = change if settings is None else change | {"config": about["config"] | settings}
    save_checkpoint(saved[1], groups, about | change)
    with fails_with(saved[1]):
        Detector.load(saved[1])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_one_line_and_keeps_the_file_that_was_there(number, saved, monkeypatch, fails_with):
    """Root may write anywhere, so the system's answer is played."""
    detector, path = saved
    before = path.read_bytes()

    def refused(part, mode):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "open", refused, raising=False)
    with fails_with(f"{path}: could not be written", os.strerror(number).lower(), "choose another folder"):
        detector.save(path, {})
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_file_that_may_not_be_read_is_one_line(saved, monkeypatch, fails_with):
    def refused(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "open", refused, raising=False)
    with fails_with(f"{saved[1]}: could not be read", "permission denied"):
        Detector.load(saved[1])


def test_features_of_your_own_are_code_which_no_file_holds(saved, tmp_path, fails_with):
    with fails_with(tmp_path / "mine.npz", "its own features"):
        dataclasses.replace(saved[0], features=lambda images: [images]).save(tmp_path / "mine.npz", {})
    assert not (tmp_path / "mine.npz").exists()


def test_one_changed_bit_is_found(saved, fails_with):
    content = bytearray(saved[1].read_bytes())
    content[len(content) // 2] ^= 1
    saved[1].write_bytes(content)
    with fails_with(saved[1]):
        Detector.load(saved[1])


def test_a_detector_takes_no_other_weights_of_its_extractor(weights, quick_config, tmp_path, fails_with):
    path, file = tmp_path / "detector.npz", tmp_path / "resnet.pth"
    file.write_bytes(b"some weights")
    Detector(weights, quick_config(features="resnet18", feature_weights=str(file)), 0.1, 0.2).save(path, {})
    assert Detector.load(path).decision_threshold == 0.2
    moved = file.rename(tmp_path / "moved.pth")
    with fails_with(file, "no such file", "--feature-weights"):
        Detector.load(path)
    assert Detector.load(path, feature_weights=moved).config.feature_weights == str(moved)
    moved.write_bytes(b"other weights")
    with fails_with(moved, "other weights", "--feature-weights"):
        Detector.load(path, feature_weights=moved)


def test_with_a_spread_across_the_threshold_an_image_is_unsure(quick_config, some_images):
    scores = Detector(init_unet(quick_config().unet()), quick_config(samples=2, image_score="max", masked=False), None, 0.0).score(
        some_images(3)
    )
    for threshold in (0.0, float(scores.score[0]), 1e6):
        detector = Detector(init_unet(quick_config().unet()), quick_config(samples=2, image_score="max", masked=False), None, threshold)
        found = detector.score(some_images(3))
        low, high = ((scores.anomaly + sign * scores.spread).max(axis=(1, 2)) for sign in (-1, 1))
        np.testing.assert_array_equal(found.unsure, (low <= threshold) & (high > threshold))


@pytest.mark.parametrize("settings", [{"tails": ";".join(2 * ["1,2,3,4,5,6,7,8,9,0.5"])}, {"feature_distance": "mahalanobis"}], ids=str)
def test_features_of_your_own_have_nothing_that_was_measured_on_others(settings, some_images, quick_config, fails_with):
    config = quick_config(**settings)
    with fails_with(*settings, "your own"):
        Detector.calibrated(init_unet(config.unet()), some_images(3), config, features=lambda images: [images])
    with fails_with(*settings, "your own"):
        Detector(init_unet(config.unet()), config, 0.1, 0.2, features=lambda images: [images])


def test_the_whitening_travels_with_the_detector(weights, images, quick_config, tmp_path, fails_with):
    config, matrix = quick_config(feature_distance="mahalanobis"), np.diag(np.arange(1, 25)).astype(np.float32)
    detector = Detector(weights, config, 0.1, 0.2, whitening=(matrix,))
    [layer], [plain] = (made.features(images) for made in (detector.model, detect.make_model(weights, quick_config())))
    np.testing.assert_allclose(layer, plain * np.arange(1, 25), rtol=1e-5)
    detector.save(tmp_path / "d.npz", {})
    np.testing.assert_array_equal(Detector.load(tmp_path / "d.npz").score(images).anomaly, detector.score(images).anomaly)
    groups, about = load_checkpoint(tmp_path / "d.npz")
    for wrong in ((), (matrix, matrix), (matrix[:3],), (np.nan * matrix,)):
        with fails_with("whitening", "'cosine'"):
            Detector(weights, config, 0.1, 0.2, whitening=wrong)
        save_checkpoint(tmp_path / "wrong.npz", groups | {"whitening": {f"{i}": array for i, array in enumerate(wrong)}}, about)
        with fails_with("wrong.npz", "whitening"):
            Detector.load(tmp_path / "wrong.npz")
    again = Detector.calibrated(weights, images, config, whitening=detector.whitening)
    np.testing.assert_array_equal(again.model.features(images)[0], layer)
    with fails_with("whitening", "'cosine'"):
        Detector.calibrated(weights, images, config)
    with fails_with("whitening", "24"):
        detect.make_model(weights, config).features(images)


def test_the_guided_map_is_added_to_that_of_mdps(weights, images, quick_config):
    alone, both = (Detector(weights, quick_config(guided_weight=weight), 0.01, 0.2).score(images) for weight in (0.0, 0.5))
    guided = detect.detect(detect.make_model(weights, quick_config()), images, quick_config(), 0.01).guided.anomaly
    np.testing.assert_array_equal(both.anomaly, alone.anomaly + np.float32(0.5) * guided)
    np.testing.assert_array_equal(both.score, IMAGE_SCORES["top_mean"](both.anomaly))
    np.testing.assert_array_equal(both.suspected, alone.suspected)
