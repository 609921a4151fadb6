"""The ablation of a small run: its rows are those of the run, the same call gives the same numbers, and one line for every mistake."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import types

import numpy as np
import pytest
from helpers import write_image

from mdps_ref import ablate, run
from mdps_ref.job import chains, images
from mdps_ref.job.config import make_config
from mdps_ref.scoring import features
from mdps_ref.study import ablation, experiment, variants
from mdps_ref.study.ablation import stratified

SETTINGS = {
    "image_size": 16,
    "train_steps": 3,
    "batch_size": 2,
    "stride": 40,
    "samples": 2,
    "guided_start": 40,
    "mdps_start": 80,
    "features": "unet",
}
TAILS = ";".join(2 * [".01,.02,.03,.04,.05,.06,.07,.08,.09,.01"])
METRICS = {"image_auroc": "image_auroc", "pixel_auroc": "pixel_auroc", "aupro": "aupro_30", "contrast": "contrast"}


def settings_file(path, **more):
    path.write_text(json.dumps(SETTINGS | more))
    return path


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Random images, and squares on some of them that stand out; one has no mask."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for part, count in (("train/good", 6), ("test/good", 4), ("test/dent", 3), ("test/rust", 2)):
        for k in range(count):
            pixels = rng.integers(0, 120, (16, 16, 3), np.uint8)
            if part.startswith("test/") and part != "test/good":
                pixels[3:9, 2 : 7 + k] += 90
                mask = np.zeros((16, 16), np.uint8)
                mask[3:9, 2 : 7 + k] = 255
                if (part, k) != ("test/dent", 2):
                    write_image(root / "part/ground_truth" / part.removeprefix("test/") / f"{k}_mask.png", mask)
            write_image(root / "part" / part / f"{k}.png", pixels)
    return root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """finished(**settings): the folder of a run that has ended, without its report."""

    def finish(**settings):
        place = tmp_path_factory.mktemp("run")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "write_report", lambda folder, result: None)
            call = ["--data", data, "--category", "part", "--config", settings_file(place / "quick.json", **settings)]
            assert run.main([str(word) for word in (*call, "--out", place / "run", "--quiet")]) == 0
        return place / "run"

    return finish


@pytest.fixture(scope="module")
def ended(finished):
    return finished()


def ablated(folder, out, *flags):
    """What ablation.json holds, with the rows by name."""
    assert ablate.main([str(word) for word in (folder, "--out", out, "--quiet", *flags)]) == 0
    found = json.loads((out / "ablation.json").read_text())
    return found | {"rows": {row["name"]: row for row in found["rows"]}}


def values(row):
    return {name: interval["value"] for name, interval in row["metrics"].items()}


@pytest.fixture(scope="module")
def everything(ended, tmp_path_factory):
    """All rows, without the extractors that this machine may have; and their folder."""
    out = tmp_path_factory.mktemp("all") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "found_networks", lambda: [])
        return ablated(ended, out), out


def test_every_row_is_there_with_numbers(everything):
    found, out = everything
    assert found["left_out"] == {}
    assert {"n-8", "stride-10", "features-unet", "pca-256", "closed-form", "neighbours-unet", "gaussian-unet"} <= found["rows"].keys()
    for name, row in found["rows"].items():
        assert all(value is not None for value in values(row).values()), name
        assert ("contrast" in row["metrics"]) == (row["group"] != "baselines")
        assert row["seconds"] > 0
        for interval in row["metrics"].values():
            assert interval["low"] <= interval["high"]
    assert {path.name for path in out.iterdir()} == {"ablation.json", "ablation.html"}


WHITENED = {"feature_distance": "mahalanobis", "guided_weight": 0.5}


@pytest.mark.parametrize(
    "settings", [{}, {"masked": False}, {"rules": "released", "batch_size": 3}, {"mask_threshold": 0.01}, WHITENED], ids=str
)
def test_rows_are_those_of_the_run(settings, finished, tmp_path):
    """What the run wrote in metrics.json, made by other code: chain by chain, in one go, with exact metrics."""
    folder = finished(**settings)
    metrics = json.loads((folder / "metrics.json").read_text())
    names = {"mdps": "mdps", "reconstruction": "reconstruction"} | ({"guidance": "guided"} if metrics["mask_threshold"] is not None else {})
    found = ablated(folder, tmp_path / "out", "--only", ",".join(names))["rows"]
    for name, chain in names.items():
        for theirs, ours in METRICS.items():
            assert found[name]["metrics"][ours]["value"] == pytest.approx(metrics[chain][theirs], abs=1e-5, rel=1e-4), (name, ours)


def test_mdps_and_a_row_of_the_same_settings_do_not_differ_from_mdps(everything):
    rows = everything[0]["rows"]
    for name in ("mdps", "n-2", "features-unet"):  # the run has n = 2, and these features
        assert [set(interval.values()) for interval in rows[name]["differences"].values()] == [{0.0}] * 3, name
        assert values(rows[name]) == values(rows["mdps"])
    assert any(interval["low"] != interval["high"] for interval in rows["reconstruction"]["differences"].values())


def test_the_parts_are_what_their_names_say(ended, data, everything, tmp_path):
    """The same settings in a run of their own, with the same weights, give the same row."""
    place = tmp_path / "alone"
    changed = {"masked": True, "mdps_strength": 0.0, "weights": str(ended / "checkpoint.npz")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_report", lambda folder, result: None)
        call = ["--data", data, "--category", "part", "--config", settings_file(tmp_path / "mask.json", **changed), "--out", place]
        assert run.main([str(word) for word in (*call, "--quiet")]) == 0
    metrics = json.loads((place / "metrics.json").read_text())
    for theirs, ours in METRICS.items():
        assert values(everything[0]["rows"]["mask"])[ours] == pytest.approx(metrics["mdps"][theirs], abs=1e-5, rel=1e-4)


def test_pixel_maps_alone_do_not_see_the_features(ended, tmp_path, monkeypatch):
    before = ablated(ended, tmp_path / "a", "--only", "pixel-maps,feature-maps")["rows"]
    monkeypatch.setattr(experiment, "unet_features", lambda *_: lambda some: [some[:, ::2, ::2] ** 2])
    after = ablated(ended, tmp_path / "b", "--only", "pixel-maps,feature-maps")["rows"]
    assert values(before["pixel-maps"]) == values(after["pixel-maps"])
    assert values(before["feature-maps"]) != values(after["feature-maps"])


def test_the_same_call_gives_the_same_numbers_and_another_seed_other_ones(everything, ended, tmp_path):
    rows = ablated(ended, tmp_path / "again", "--only", "guidance,neighbours-unet")["rows"]
    for name, row in rows.items():
        assert row | {"seconds": 0} == everything[0]["rows"][name] | {"seconds": 0}
    other = ablated(ended, tmp_path / "other", "--only", "guidance", "--seed", 5)["rows"]
    assert other["guidance"]["metrics"] != rows["guidance"]["metrics"]


def test_some_images_are_chosen_in_their_shares(ended, tmp_path, capsys):
    found = ablated(ended, tmp_path / "out", "--only", "z-score", "--images", 5)
    assert found["images"] == found["images"] | {"good": 2, "defective": 3, "of": 9}
    assert "5 of 9" in capsys.readouterr().out
    assert "chosen from all 9" in (tmp_path / "out/ablation.html").read_text()


def test_a_stratified_choice_keeps_shares_and_both_classes():
    kinds = np.array(["good"] * 60 + ["dent"] * 30 + ["rust"] * 10)
    chosen = stratified(kinds, kinds != "good", 50, seed=1)
    assert {kind: np.count_nonzero(kinds[chosen] == kind) for kind in ("good", "dent", "rust")} == {"good": 30, "dent": 15, "rust": 5}
    assert len(set(chosen)) == 50 and (np.diff(chosen) > 0).all()
    assert not np.array_equal(chosen, stratified(kinds, kinds != "good", 50, seed=2))
    rare = np.array(["good"] * 99 + ["dent"])
    assert 99 in stratified(rare, rare != "good", 2, seed=0) and len(stratified(rare, rare != "good", 2, seed=0)) == 2
    assert len(stratified(rare, rare != "good", 500, seed=0)) == 100


def test_a_synthetic_set_is_drawn_again_and_the_run_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "SYNTHETIC", {"size": 32, "train": 3, "test_good": 1, "per_defect": 1})
    monkeypatch.setattr(run, "write_report", lambda folder, result: None)
    assert run.main(["--config", str(settings_file(tmp_path / "quick.json")), "--out", "drawn", "--quiet"]) == 0
    shutil.rmtree("drawn/synthetic")
    before = {path: path.read_bytes() for path in (tmp_path / "drawn").rglob("*") if path.is_file()}
    assert ablate.main(["drawn", "--out", "out", "--only", "reconstruction", "--quiet"]) == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "drawn").rglob("*") if path.is_file()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ablation.json", "ablation.html"}


def test_the_page_needs_no_other_file_and_has_the_numbers(everything):
    found, out = everything
    page = (out / "ablation.html").read_text()
    assert page.count("<img") == 1 and 'src="data:image/png;base64,' in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    for row in found["rows"].values():
        assert row["title"] in page
        assert f"{row['metrics']['pixel_auroc']['value']:.3f}" in page


def test_a_row_is_marked_where_its_interval_excludes_0(everything):
    found, out = everything
    cells = re.findall(r"[▲▼](?= \d)", (out / "ablation.html").read_text())
    differences = [interval for row in found["rows"].values() for interval in row["differences"].values()]
    assert cells.count("▲") == sum(interval["low"] > 0 for interval in differences)
    assert cells.count("▼") == sum(interval["high"] < 0 for interval in differences)


def test_all_extractors_that_are_found_have_rows(monkeypatch):
    monkeypatch.setattr(features, "usual_file", lambda name: pathlib.Path(__file__ if name == "resnet18" else "none"))
    rows = variants.wanted_rows(make_config(features="unet"))
    names = {name for name in rows if name.partition("-")[0] in {"features", "neighbours", "gaussian"}}
    extractors = ("unet", "resnet18")
    assert names == {"features-unet+resnet18"} | {
        f"{what}-{name}" for what in ("features", "neighbours", "gaussian") for name in extractors
    }
    assert not rows["features-unet+resnet18"].tails and not rows["features-resnet18"].tails
    measured = variants.wanted_rows(make_config(features="unet", tails=TAILS))
    assert measured["features-resnet18"].tails and not measured["features-unet"].tails
    assert measured["reconstruction"].tails and not rows["reconstruction"].tails


def test_the_runs_own_network_looks_as_in_the_run_and_another_one_at_enlarged_images(monkeypatch):
    monkeypatch.setattr(variants, "found_networks", lambda: ["resnet18", "mobilenet_v1"])
    own = {"feature_weights": "some.pth", "feature_layers": "layer1", "feature_size": 70}
    rows = variants.wanted_rows(make_config(features="unet+resnet18", image_size=64, **own))
    other = {"feature_weights": "", "feature_layers": "conv_pw_11,conv_pw_12", "feature_size": 384}
    for names, view in (
        (("resnet18",), own),
        (("mobilenet_v1", "unet+mobilenet_v1"), other),
        (("unet",), dict.fromkeys(own) | {"feature_weights": "", "feature_layers": ""}),
    ):
        for name in names:
            change = rows[f"features-{name}"].change
            assert change["features"] == name and {key: change[key] for key in own} == view
    assert rows["features-unet+resnet18"].change == {} == rows["neighbours-unet+resnet18"].change
    assert rows["neighbours-resnet18"].change.items() >= own.items()


def test_guidance_alone_is_no_other_method_where_there_is_no_mask():
    assert "guidance" in variants.variants(make_config()) and "guidance" not in variants.variants(make_config(masked=False))


def test_every_variant_is_a_config_and_the_released_one_guides_as_strongly():
    config = make_config(mask_threshold=0.3, batch_size=4)
    for name, variant in variants.variants(config).items():
        dataclasses.replace(config, **variant.change), name
    released = dataclasses.replace(config, **variants.variants(config)["released"].change)
    ours, theirs = (c.resolved_rules.weight(c.guided_strength, (32, 32, 3)) for c in (config, released))
    assert theirs / config.batch_size**0.5 == pytest.approx(ours)


# Mistakes


@pytest.fixture
def refused(capsys, tmp_path):
    """refused(arguments, *parts): the call ends with status 2, one line that holds every part, and no new file."""

    def expect(arguments, *parts):
        capsys.readouterr()
        before = sorted(tmp_path.rglob("*"))
        assert ablate.main([str(word) for word in arguments]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("mdps_ref: ") and err.count("\n") == 1, err
        assert [part for part in parts if str(part) not in err] == [], err
        assert sorted(tmp_path.rglob("*")) == before

    return expect


def test_one_line_for_every_mistake(ended, tmp_path, refused):
    out = tmp_path / "out"
    refused([ended, "--out", out, "--only", "guidance,gidance"], "'gidance'", "reconstruction")
    refused([tmp_path / "none", "--out", out], tmp_path / "none", "config.json")
    refused([ended, "--out", ended], ended, "already holds files")
    refused([ended, "--out", out, "--images", 1], "--images")
    refused([ended, "--out", out, "--seed", -1], "seed")
    (tmp_path / "part").mkdir()
    shutil.copy(ended / "config.json", tmp_path / "part")
    refused([tmp_path / "part", "--out", out], "detector.npz")


def test_images_that_changed_since_the_run_are_refused(ended, data, tmp_path, refused):
    path = data / "part/test/dent/1.png"
    kept = path.read_bytes()
    try:
        write_image(path, np.zeros((16, 16, 3), np.uint8))
        refused([ended, "--out", tmp_path / "out", "--quiet"], path, "was replaced", f"run in {ended} ")
    finally:
        path.write_bytes(kept)


def test_a_run_without_defective_test_images_is_refused(data, ended, tmp_path, refused, monkeypatch):
    """The kind is played, since a run of another folder takes longer."""
    monkeypatch.setattr(ablate, "images_again", lambda *_: types.SimpleNamespace(items=[types.SimpleNamespace(is_anomalous=False)] * 2))
    refused([ended, "--out", tmp_path / "out", "--quiet"], ended, "all good", "both kinds")


def test_an_interruption_leaves_nothing_behind(ended, tmp_path, monkeypatch, capsys):
    draw = ablation.Experiment.samples

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return draw(*arguments)

    monkeypatch.setattr(ablation.Experiment, "samples", interrupted)
    assert ablate.main([str(ended), "--out", str(tmp_path / "out"), "--quiet"]) == 130
    assert capsys.readouterr().err == "mdps_ref: stopped by SIGINT\n"
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def with_tails(finished):
    return finished(tails=TAILS)


def test_the_tails_of_reconstructions_are_measured_on_them_and_those_of_mdps_are_the_runs(with_tails, tmp_path, monkeypatch):
    chains_measured, measure = [], ablation.tails_of_good
    monkeypatch.setattr(
        ablation, "tails_of_good", lambda good, config, chain: chains_measured.append(chain) or measure(good, config, chain)
    )
    rows = ablated(with_tails, tmp_path / "out", "--only", "reconstruction,guidance,released")["rows"]
    assert chains_measured == ["reconstruction"] and rows["reconstruction"]["settings"]["tails"] not in ("", TAILS)
    assert "tails" not in rows["mdps"]["settings"] and "tails" not in rows["guidance"]["settings"]
    assert rows["released"]["settings"]["tails"] == ""


@pytest.mark.parametrize("which", ["ended", "with_tails"])
def test_a_variant_whose_maps_are_nan_is_left_out_and_mdps_is_not(which, request, tmp_path, monkeypatch, refused):
    sampled, ended = chains._sampled, request.getfixturevalue(which)

    def broken(model, some, config, chain_name, *rest):
        for x_0 in sampled(model, some, config, chain_name, *rest):
            yield np.nan * x_0 if chain_name == broken.chain else x_0

    monkeypatch.setattr(chains, "_sampled", broken)
    broken.chain = "reconstruction"
    assert ablated(ended, tmp_path / "out", "--only", "reconstruction")["left_out"] == {"reconstruction": "its maps are nan"}
    broken.chain = "mdps"
    refused([ended, "--out", tmp_path / "more", "--quiet", "--only", "reconstruction"], "MDPS", "nan")
