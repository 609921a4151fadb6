"""What the page computes, by the package: pictures, scratches on them, the chains one step at a time, and the verdict.

The web worker imports this file into Pyodide. It needs no browser: the tests and `data_scripts/try_it_thresholds.py` import it, too.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np
from PIL import Image

from mdps_ref.backend import image_key, random_stream
from mdps_ref.data.drawing import stroke
from mdps_ref.data.images import load_image
from mdps_ref.data.synthetic import draw_defect, draw_good
from mdps_ref.diffusion.forward import q_sample
from mdps_ref.diffusion.reverse import tweedie
from mdps_ref.diffusion.schedule import alpha_bar, visited_timesteps
from mdps_ref.errors import InputError
from mdps_ref.job.bundled import weights_file, with_bundled
from mdps_ref.job.chains import chain_settings, comparison
from mdps_ref.job.config import make_config
from mdps_ref.job.detect import make_model
from mdps_ref.job.weights import load_weights
from mdps_ref.kernels import fast
from mdps_ref.posterior.guidance import GUIDES, guidance_weight
from mdps_ref.posterior.mask import suspected
from mdps_ref.posterior.sampler import ddim_chain, mdps_denoiser, noise_source, prior_denoiser
from mdps_ref.scoring.difference import difference_map
from mdps_ref.scoring.image_score import IMAGE_SCORES, mean_and_spread
from mdps_ref.scoring.metrics import exceeds

PICTURE = 128  # pixels a side of a picture on the page, as in the synthetic set
WIDTH = 0.017  # of a scratch, as a share of the picture's side: that of the synthetic set
FURROW, EDGE = "#7f7f84", "#ffffff"
USUAL = make_config(with_bundled({"features": "unet", "false_positive_rate": 0.0}, "washer"))


class Step(NamedTuple):
    """One step of a chain, of the first sample.

    Attributes
    ----------
    chain : {"guided", "mdps"}
    t : int
        The timestep.
    x_t, x_0 : array, (H, W, C), in [-1, 1] where they are clean
        The noisy image, and the estimate of the clean one that the denoiser makes of it.
    """

    chain: str
    t: int
    x_t: np.ndarray
    x_0: np.ndarray


class Found(NamedTuple):
    """What a chain says of the image.

    Attributes
    ----------
    chain : {"guided", "mdps"}
    anomaly, spread : array, (H, W)
        Mean and standard deviation of the anomaly maps of the samples.
    mask : array, (H, W)
        1 = suspected. After the guided chain: the mask that MDPS will have; after MDPS the mask that it had.
    x_0 : array, (H, W, C)
        The first sample.
    """

    chain: str
    anomaly: np.ndarray
    spread: np.ndarray
    mask: np.ndarray
    x_0: np.ndarray


def config_of(start, strength, samples, mask_share):
    """Return the settings that the four knobs stand for.

    Parameters
    ----------
    start : int
        T, of both chains.
    strength : float
        w, in multiples of the package's own, which differ between the two chains.
    samples : int
        n.
    mask_share : float

    Returns
    -------
    Config
    """
    return dataclasses.replace(
        USUAL,
        guided_start=start,
        mdps_start=start,
        guided_strength=strength * USUAL.guided_strength,
        mdps_strength=strength * USUAL.mdps_strength,
        samples=samples,
        mask_share=mask_share,
    )


@functools.cache
def bundled():
    """Return the bundled weights, and the Model of them. No knob changes either."""
    weights = load_weights(weights_file(USUAL), USUAL)
    return weights, make_model(weights, USUAL)


def picture(kind, number):
    """Draw a washer, (PICTURE, PICTURE, 3) uint8; `kind` is "good" or a defect. No picture of the page trained the network."""
    rng = random_stream(0, "try it", f"{kind}/{number}")
    return draw_good("washer", PICTURE, rng) if kind == "good" else draw_defect("washer", kind, PICTURE, rng)[0]


def read(path):
    """Read an image file, (PICTURE, PICTURE, 3) uint8.

    Raises
    ------
    InputError
        As `load_image`.
    """
    return _bytes_of(load_image(path, PICTURE))


def seen(pixels):
    """Return a picture as the network sees it: saved as a file, and read as the package reads files.

    Parameters
    ----------
    pixels : array, (PICTURE, PICTURE, 3) uint8

    Returns
    -------
    array, (1, 64, 64, 3) float32 in [-1, 1]
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "picture.png")
        Image.fromarray(pixels).save(path)
        return load_image(path, USUAL.image_size)[None]


def scratched(pixels, strokes):
    """Draw scratches on a picture.

    Parameters
    ----------
    pixels : array, (PICTURE, PICTURE, 3) uint8
    strokes : list of list of (x, y)
        The corners of each scratch, as shares of the picture's side.

    Returns
    -------
    array, (PICTURE, PICTURE, 3) uint8
    """
    rgb = (pixels.transpose(2, 0, 1) / 255).astype(np.float32)
    at = ((np.arange(PICTURE) + 0.5) / PICTURE).astype(np.float32)
    for corners in strokes:
        corners = [corners[0], *(b for a, b in itertools.pairwise(corners) if a != b)]
        if len(corners) == 1:
            corners.append([corners[0][0] + 1 / PICTURE, corners[0][1]])
        stroke(corners, WIDTH, FURROW, lit=EDGE)(at[None, :], at[:, None], rgb)
    return np.rint(255 * rgb.transpose(1, 2, 0)).astype(np.uint8)


def watch(model, y, config, threshold):
    """Do with one image what `Detector.score` does, one step of a chain at a time.

    Parameters
    ----------
    model : Model
    y : array, (1, H, W, C), in [-1, 1]
    config : Config
    threshold : float
        Of the mask.

    Yields
    ------
    Step or Found
        The steps of the guided chain and what it found, then those of MDPS and what it found. Where the mask is empty MDPS takes no
        steps: its sample is the image itself.
    """
    samples = yield from _steps(model, y, config, "guided", None)
    anomaly, spread = _maps(model, y, config, samples)
    mask = suspected(anomaly, threshold)
    yield Found("guided", anomaly[0], spread[0], mask[0, ..., 0], samples[0])
    if mask.any():
        samples = yield from _steps(model, y, config, "mdps", mask)
        anomaly, spread = _maps(model, y, config, samples)
    else:
        samples, anomaly, spread = y, np.zeros_like(anomaly), np.zeros_like(spread)
    yield Found("mdps", anomaly[0], spread[0], mask[0, ..., 0], samples[0])


def _steps(model, y, config, chain, mask):
    """Yield the Steps of a chain, and return its samples, (n, H, W, C). n samples go through the network together."""
    start, strength = chain_settings(config, chain)
    repeated, key = np.repeat(y, config.samples, axis=0), image_key(y[0])
    draw = noise_source(config.seed, chain, [(key, number) for number in range(config.samples)], y)
    weight = guidance_weight(strength, y.shape[1:])
    predict = model.predict_noise
    denoise = GUIDES[config.guidance](predict, repeated, weight) if weight else prior_denoiser(predict)
    if mask is not None:
        denoise = mdps_denoiser(denoise, repeated, np.repeat(mask, config.samples, axis=0))
    x = q_sample(repeated, draw(), alpha_bar(start))
    for t, s in itertools.pairwise(visited_timesteps(start, config.stride)):
        with fast():
            eps = denoise(x, t)
        yield Step(chain, t, x[0], tweedie(x, eps, alpha_bar(t))[0])
        x = ddim_chain(x, [t, s], lambda x_t, t, eps=eps: eps, draw, ddim_eta=config.ddim_eta)
    return x


def _maps(model, y, config, samples):
    """Mean and spread of the anomaly maps of an image's samples, (1, H, W) each."""
    with fast():
        features = model.features(y)
        maps = [
            difference_map(x_0[None], y, lambda images: features if images is y else model.features(images), **comparison(config))
            for x_0 in samples
        ]
    return mean_and_spread(np.stack(maps, axis=1))


def verdict(found, config, threshold):
    """Judge what MDPS found.

    Parameters
    ----------
    found : Found
    config : Config
    threshold : float
        Of the decision.

    Returns
    -------
    dict
        The score; "flagged"; "unsure", if less or more than the mean map, by its spread, would change the decision; "x" and "y", the
        place of the map's maximum as shares of the picture's side.
    """
    score = IMAGE_SCORES[config.image_score]
    mean, low, high = (float(score(found.anomaly[None] + sign * found.spread[None])[0]) for sign in (0, -1, 1))
    row, column = np.unravel_index(found.anomaly.argmax(), found.anomaly.shape)
    return {
        "score": mean,
        "flagged": bool(exceeds(mean, threshold)),
        "unsure": bool(exceeds(low, threshold) != exceeds(high, threshold)),
        "x": float(column + 0.5) / found.anomaly.shape[1],
        "y": float(row + 0.5) / found.anomaly.shape[0],
    }


# What the worker calls. Pictures come and go as bytes, and settings as JSON.


def drawn(kind, number):
    """Return `picture` as bytes."""
    return picture(kind, number).tobytes()


def opened(path):
    """Return {"picture": bytes} of an image file, or {"error": a line}."""
    try:
        return {"picture": read(path).tobytes()}
    except InputError as error:
        return {"error": str(error)}


def painted(pixels, strokes):
    """Return a picture, given as bytes, with scratches on it, given as JSON, as bytes."""
    return scratched(_picture_of(pixels), json.loads(strokes)).tobytes()


def told(pixels, row):
    """Yield, for the page, what `watch` yields: dictionaries of numbers and bytes.

    Parameters
    ----------
    pixels : bytes
        Of a picture, scratches included.
    row : str
        JSON of one row of thresholds.json: the four knobs and the two thresholds that belong to them.
    """
    row = json.loads(row)
    config = config_of(**{name: row[name] for name in KNOBS})
    for what in watch(bundled()[1], seen(_picture_of(pixels)), config, row["mask_threshold"]):
        if isinstance(what, Step):
            yield {"chain": what.chain, "t": what.t, "x_t": _bytes_of(what.x_t).tobytes(), "x_0": _bytes_of(what.x_0).tobytes()}
        else:
            arrays = {"mask": what.mask.astype(np.uint8), "anomaly": what.anomaly.astype(np.float32), "sample": _bytes_of(what.x_0)}
            judged = verdict(what, config, row["decision_threshold"])
            yield {"chain": what.chain, "verdict": judged, **{name: array.tobytes() for name, array in arrays.items()}}


KNOBS = ("start", "strength", "samples", "mask_share")


def _picture_of(pixels):
    return np.frombuffer(pixels, np.uint8).reshape(PICTURE, PICTURE, 3)


def _bytes_of(image):
    """An image in [-1, 1] as uint8; what lies outside is clipped."""
    return np.rint(127.5 * (image.clip(-1, 1) + 1)).astype(np.uint8)
