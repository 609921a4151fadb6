"""Calibration, detection and tuning on a cluster: a batch of images is a task of a chain, and its maps or samples come back in order."""

import functools

import distributed

from mdps_ref.errors import InputError
from mdps_ref.job.cluster import Session, Work, check_extractor
from mdps_ref.job.detect import extractor_digest, make_model


def chains_on_cluster(client, work, weights, config, extractor=None, whitening=(), threads=1, backend="auto"):
    """Return what takes the place of `chains.one_after_another`, such as the `make_maps` of `detect.detect`, and works on a cluster.

    The bytes are those of one process with one thread, whatever the number of workers, their order, and deaths among them.

    Parameters
    ----------
    client : distributed.Client
    work : callable
        What is done with a batch: `chains.batch_maps`, or `chains.draw_samples`.
    weights, config, extractor, whitening
        As for `detect.make_model`. Each worker makes the Model by itself.
    threads, backend
        See `cluster.Work`.

    Raises
    ------
    InputError
        Later, from what is returned: if the workers of a batch are killed again and again.
    """
    digest = None if extractor else extractor_digest(config)
    session = Session(client, Work(functools.partial(_model, config, digest, extractor, whitening), weights, threads, backend))

    def on_cluster(model, batches, config, chain_name):
        for _, task in session.in_order(batches, lambda batch: session.submit(_done, work, config, chain_name, *batch)):
            try:
                yield session.result(task)
            except distributed.KilledWorker:
                raise InputError(
                    f"the processes that computed a batch of the {chain_name} chain were killed, one after another; give the workers more "
                    "memory, and go on with --resume"
                ) from None

    return on_cluster


def _model(config, digest, extractor, whitening, weights, xp):
    """In a worker: the Model."""
    if extractor is None:
        check_extractor(config, digest)
    return make_model(weights, config, extractor, whitening)


def _done(model, work, config, chain_name, images, mask):
    """In a worker: the work on a batch."""
    return work(model, images, config, chain_name, mask)
