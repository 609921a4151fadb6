"""One chain for a few images or for all: samples, the maps that compare them with the images, kept batch by batch."""

import dataclasses
import functools

import numpy as np

from mdps_ref.backend import image_key, to_device, to_host
from mdps_ref.errors import InputError
from mdps_ref.job.interrupt import interruptible, stop_if_asked
from mdps_ref.job.maps import InMemory, Maps
from mdps_ref.job.progress import progress
from mdps_ref.kernels.processes import Team, members
from mdps_ref.kernels.threads import even_shares
from mdps_ref.posterior.sampler import prior_denoiser
from mdps_ref.scoring.difference import DISTANCES, absolute_difference, difference_map
from mdps_ref.scoring.image_score import IMAGE_SCORES, mean_and_spread, pooled_mean_and_spread

CHAINS_AT_ONCE = 16  # image-sample pairs in one pass of the network: enough to keep its products large


def images_at_once(config):
    """Return how many images share each pass of the network."""
    return config.batch_size if config.resolved_rules.share_batches else max(1, CHAINS_AT_ONCE // config.samples)


def one_after_another(model, batches, config, chain_name, work=None):
    """Make the Maps of batches of images in this process.

    Parameters
    ----------
    model, config, chain_name
        As for `run_chains`.
    batches : iterable of (array, (n, H, W, C); array, (n, H, W, 1), or None)
        The images of each batch, and their mask.
    work : callable, optional
        What is done with a batch instead, such as `draw_samples`.

    Yields
    ------
    Maps
        Of each batch, in their order, as `batch_maps` returns them.
    """
    for images, mask in batches:
        yield (work or batch_maps)(model, images, config, chain_name, mask)


def run_chains(model, images, config, chain_name, mask_of=None, keep=InMemory, make_maps=one_after_another, change=None):
    """Run n chains an image and keep their maps, with a progress bar. Images that an earlier process finished are left out.

    Parameters
    ----------
    model, images, config, keep, make_maps
        As for `detect`.
    chain_name : {"reconstruction", "guided", "mdps"}
        Chooses start and strength, and names the random streams.
    mask_of : callable, optional
        mask_of(part) -> the mask of the images in a slice, (n, H, W, 1), 1 = suspected.
    change : callable, optional
        change(part, maps) -> the Maps that are kept of the images in a slice, such as `with_guided` makes.

    Returns
    -------
    What `keep` made, with the Maps of all images

    Raises
    ------
    Interrupted
        If a signal asked to stop; the batches that were finished are kept.
    """
    at_once, kept = images_at_once(config), keep(chain_name)
    done = min(kept.done, len(images))
    parts = [slice(start, min(start + at_once, len(images))) for start in range(done, len(images), at_once)]
    batches = ((images[part], mask_of and mask_of(part)) for part in parts)
    made = make_maps(model, batches, config, chain_name)
    with progress(len(images), "image", f"{chain_name} chain", done) as shown:
        for part, maps in zip(parts, made, strict=True):
            kept.add(change(part, maps) if change else maps)
            shown.update(part.stop - part.start)
            stop_if_asked()
    return kept


def with_guided(maps, guided, config):
    """Add the guided chain's anomaly map, weighted, to that of MDPS.

    Parameters
    ----------
    maps : Maps
        Of MDPS.
    guided : array, (N, H, W)
        The anomaly maps of the guided chain, of the same images.
    config : Config
        Has the weight, and chooses the image score.

    Returns
    -------
    Maps
        The spread stays that of the samples of MDPS: it is 0 where the mask is empty.
    """
    anomaly = maps.anomaly + config.guided_weight * guided
    return dataclasses.replace(maps, anomaly=anomaly, score=IMAGE_SCORES[config.image_score](anomaly))


def batch_maps(model, images, config, chain_name, mask=None):
    """Run n chains for each of a few images, which share each pass of the network, and make their Maps.

    Where the mask of an image is empty, Eq. (10) makes every sample the image itself: no chain is run, and its maps are 0.

    Parameters
    ----------
    model, images, config, chain_name
        As for `run_chains`.
    mask : array, (n, H, W, 1), optional
        1 = suspected.

    Returns
    -------
    Maps

    Raises
    ------
    InputError
        If a map is not finite.
    """
    if mask is None or not config.resolved_rules.keeps_normal_pixels:
        return _maps(model, images, config, chain_name, mask)
    drawn = mask.any(axis=(1, 2, 3))
    maps = _unchanged(images, config)
    if drawn.any():
        some = _maps(model, images[drawn], config, chain_name, mask[drawn])
        for field in dataclasses.fields(Maps):
            getattr(maps, field.name)[drawn] = getattr(some, field.name)
    return maps


def _unchanged(images, config):
    """Return the Maps of images whose samples are the images themselves."""
    zeros = np.zeros(images.shape[:3], images.dtype)
    score = IMAGE_SCORES[config.image_score](zeros)
    return Maps(images.copy(), zeros.copy(), zeros.copy(), zeros.copy(), score, zeros)


def _maps(model, images, config, chain_name, mask):
    """Return the Maps of a few images. Inside `fast` a team of processes shares the work."""
    results, same_images = _in_team(_compared, model, images, config, chain_name, mask)
    if same_images:
        first, difference, mean, spread = functools.reduce(_pooled, results)[1]
    else:
        first, difference, mean, spread = (np.concatenate(arrays) for arrays in zip(*(arrays for _, arrays in results), strict=True))
    if not np.isfinite(mean).all():
        raise InputError(f"the {chain_name} chain gave nan; train longer, or with a lower learning_rate")
    return Maps(
        x_0=first,
        difference=difference / config.samples,
        anomaly=mean,
        spread=spread,
        score=IMAGE_SCORES[config.image_score](mean),
        suspected=np.ones(images.shape[:3], images.dtype) if mask is None else mask[..., 0],
    )


def _shares(count, config, on_host):
    """Cut a few images into shares, or, if they are fewer than the processes, their samples: (images, sample numbers), one a process."""
    every_image, every_sample = slice(0, count), range(config.samples)
    if not on_host or (config.resolved_rules.share_batches and count > 1):
        return [(every_image, every_sample)]
    if count >= members(count * config.samples):
        return [(part, every_sample) for part in even_shares(count, members(count))]
    return [(every_image, every_sample[part]) for part in even_shares(config.samples, members(config.samples))]


def draw_samples(model, images, config, chain_name, mask=None):
    """Draw the n posterior samples of a few images. Inside `fast` a team of processes shares the work.

    Parameters
    ----------
    model, images, config, chain_name, mask
        As for `batch_maps`.

    Returns
    -------
    array, (N, n, H, W, C)
        On the host: the samples that `batch_maps` compares.
    """

    def drawn(*what):
        return np.concatenate([to_host(x_0) for x_0 in _sampled(*what)], axis=1)

    results, same_images = _in_team(drawn, model, images, config, chain_name, mask)
    return np.concatenate(results, axis=1 if same_images else 0)


def draw_all(model, images, config, chain_name, mask=None, draw_batches=None):
    """Draw the n posterior samples of all images, batch by batch, with a progress bar.

    Where the mask of an image is empty, and the rules keep normal pixels, its samples are the image itself, and no chain is run.

    Parameters
    ----------
    model, images, config, chain_name, mask
        As for `batch_maps`; the images are on the host.
    draw_batches : callable, optional
        Where they are not drawn in this process: draw_batches(model, batches, config, chain_name) yields the samples of each batch, as
        `draw_samples` draws them.

    Returns
    -------
    array, (N, n, H, W, C)
        On the host.
    """
    at_once, samples = images_at_once(config), np.repeat(images[:, None], config.samples, axis=1)
    skips = mask is not None and config.resolved_rules.keeps_normal_pixels
    wanted = np.flatnonzero(mask.any(axis=(1, 2, 3))) if skips else np.arange(len(images))
    parts = [wanted[start : start + at_once] for start in range(0, len(wanted), at_once)]
    batches = ((images[some], None if mask is None else mask[some]) for some in parts)
    drawn = (draw_batches or functools.partial(one_after_another, work=draw_samples))(model, batches, config, chain_name)
    with progress(len(wanted), "image", f"{chain_name} chain") as shown:
        for some, of_batch in zip(parts, drawn, strict=True):
            samples[some] = of_batch
            shown.update(some.size)
    return samples


def _in_team(work, model, images, config, chain_name, mask):
    """Do work(model, images, config, chain_name, mask, sample numbers) for each share of a few images.

    Returns
    -------
    list
        The result of each share.
    bool
        Whether the shares are samples of the same images; otherwise they are all samples of some images each.
    """
    shares = _shares(len(images), config, model.xp is np)

    def of_share(part, numbers):
        return work(model, images[part], config, chain_name, None if mask is None else mask[part], numbers)

    with Team(of_share, len(shares)) as team:
        return team(shares), shares[0][0] == shares[-1][0]


def _sampled(model, images, config, chain_name, mask, numbers):
    """Draw samples of the given numbers, which are a process's share of n, a few at a time: so memory does not grow with n.

    Yields
    ------
    array, (N, some, H, W, C)
        On the device.
    """
    rules, at_once = config.resolved_rules, max(1, CHAINS_AT_ONCE * len(numbers) // (config.samples * len(images)))
    y = to_device(images, model.xp)
    mask = None if mask is None else to_device(mask, model.xp)
    chain = _chain(model.predict_noise, config, rules, chain_name, images.shape[1:])
    keys = [image_key(image) for image in images]
    for start in range(0, len(numbers), at_once):
        yield rules.sample(chain, y, mask, keys, numbers[start : start + at_once], config.seed, chain_name)


def _compared(model, images, config, chain_name, mask, numbers):
    """Draw samples of the given numbers, and compare them with their images.

    Returns
    -------
    int, (first, difference, mean, spread)
        The number of samples; the first sample, the sum of |x_0 - y|, and the moments of the anomaly maps, on the host.
    """
    y, total = to_device(images, model.xp), None
    settings = comparison(config)
    features_of_y = model.features(y)

    def features(arrays):
        return features_of_y if arrays is y else model.features(arrays)

    for x_0 in _sampled(model, images, config, chain_name, mask, numbers):
        maps = model.xp.stack([difference_map(sample, y, features, **settings) for sample in x_0.swapaxes(0, 1)], axis=1)
        drawn = x_0.shape[1], (x_0[:, 0], absolute_difference(x_0, y[:, None]).sum(axis=1), *mean_and_spread(maps))
        total = drawn if total is None else _pooled(total, drawn)
    return total[0], tuple(map(to_host, total[1]))


def comparison(config):
    """Return how samples are compared with their images: the settings of `difference_map`, as a dictionary."""
    return {
        "distance": DISTANCES[config.feature_distance],
        "pixel_weight": config.pixel_weight,
        "sigma": config.blur * config.image_size,
        "fuse": config.resolved_rules.fuse,
        "tails": config.tail_numbers(),
    }


def _pooled(one, other):
    """What `_compared` gave for some samples and for others of the same images, together."""
    (n, (first, difference, *moments)), (m, (_, other_difference, *other_moments)) = one, other
    count, mean, spread = pooled_mean_and_spread((n, *moments), (m, *other_moments))
    return count, (first, difference + other_difference, mean, spread)


def chain_settings(config, chain_name):
    """Return the start and the guidance strength of the chain of this name."""
    strength = {"reconstruction": 0.0, "guided": config.guided_strength, "mdps": config.mdps_strength}[chain_name]
    return config.guided_start if chain_name == "guided" else config.mdps_start, strength


def _chain(predict_noise, config, rules, chain_name, shape):
    """Return chain(y, mask, draw) -> x_0, with the settings of the chain of this name; without strength there is no guide."""
    start, strength = chain_settings(config, chain_name)
    weight, timesteps, guide = rules.weight(strength, shape), rules.timesteps(start, config.stride), rules.guides[config.guidance]
    predict = interruptible(predict_noise)

    def chain(y, mask, draw):
        denoise = guide(predict, y, weight, mask) if weight else prior_denoiser(predict)
        return rules.chain(denoise, y, mask, start, timesteps, draw, ddim_eta=config.ddim_eta)

    return chain
