"""What a script calls: a detector that scores arrays, arrays that would score wrongly, and an extractor made once."""

import numpy as np
import pytest

import mdps_ref
from mdps_ref.autograd.norm import group_norm_silu
from mdps_ref.job import detect
from mdps_ref.kernels import table
from mdps_ref.nn.unet import init_unet


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
    config, names = quick_config(), [str(i) for i in range(5)]
    model = detect.make_model(weights, config)
    threshold, scores = detect.calibrate(model, images, names, config)
    found = detect.detect(model, images, names, config, threshold).mdps
    ours = detector.score(images)
    assert detector.mask_threshold == threshold
    for name in ("score", "anomaly", "spread", "suspected", "x_0"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(found, name))
    np.testing.assert_array_equal(ours.flagged, scores > np.float64(detector.decision_threshold))
    assert ours.flagged.dtype == ours.suspected.dtype == bool
    assert (detector.score(images, names[::-1]).score != ours.score).any()
    renamed = mdps_ref.Detector.calibrated(weights, images, config, names[::-1])
    assert renamed.mask_threshold == detect.calibrate(model, images, names[::-1], config)[0] != threshold


def test_a_detector_compares_what_your_extractor_finds(weights, images, quick_config):
    dull = mdps_ref.Detector.calibrated(weights, images, quick_config(pixel_weight=0.0), features=lambda images: [0 * images + 1])
    assert dull.mask_threshold == dull.decision_threshold == 0 and not dull.score(images).anomaly.any()


def calls(detector, images):
    """Every call from Python that takes images."""
    model, config, names = detector.model, detector.config, list("abcde")
    return (
        lambda: detector.score(images),
        lambda: mdps_ref.Detector.calibrated(detector.weights, images, config),
        lambda: detect.calibrate(model, images, names, config),
        lambda: detect.detect(model, images, names, config, 0.5),
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


@pytest.mark.parametrize("names, says", [(["a", "b", "a"], "'a'"), (["a", "b"], "2 names for 3"), ("abc", "list")])
def test_names_that_do_not_tell_images_apart_are_refused(names, says, detector, images, fails_with):
    with fails_with(says):
        detector.score(images[:3], names)


def test_images_of_float64_score_as_those_of_float32(detector, images):
    np.testing.assert_array_equal(detector.score(images.astype(np.float64)).score, detector.score(images).score)


def test_training_without_a_folder_writes_nothing(tmp_path, monkeypatch, images, quick_config):
    monkeypatch.chdir(tmp_path)
    assert mdps_ref.train(quick_config(), images).step == 3 and not list(tmp_path.iterdir())


def test_features_are_made_as_the_settings_say_and_once(weights, quick_config, monkeypatch):
    made = []
    monkeypatch.setattr(detect, "make_features", lambda *what: made.append(what) or (lambda images: [images]))
    assert detect.make_extractor(quick_config(), np) is None and not made
    config = quick_config(features="resnet18", feature_weights="r.pth", feature_layers="layer1,layer3")
    extractor = detect.make_extractor(config, np)
    assert made == [("resnet18", "r.pth", "layer1,layer3", np)]
    assert detect.make_model(weights, config, extractor).features is extractor and len(made) == 1
    assert detect.make_model(weights, config).features("y") == ["y"] and len(made) == 2
