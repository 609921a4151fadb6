"""Masked Diffusion Posterior Sampling (Wu et al., IJCAI 2024) from scratch in NumPy; the README gives the reading order."""

import re
import signal
import sys

# `python -m mdps_ref...` is still importing: until the command sets its own handler, Ctrl-C ends it without a traceback.
if sys.argv[:1] == ["-m"] and re.search(r"\0-[A-Za-z]*m\0?mdps_ref[.\0]", "\0".join([*sys.orig_argv, ""])):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from mdps_ref.autograd import ops
from mdps_ref.autograd.check import check_pullback
from mdps_ref.autograd.tape import Tensor, primitive, pull_back, value_and_gradient
from mdps_ref.errors import InputError
from mdps_ref.job.config import make_config
from mdps_ref.job.detector import Detector
from mdps_ref.job.train import train
from mdps_ref.job.weights import load_weights
from mdps_ref.kernels import fast
from mdps_ref.posterior.guidance import GUIDES
from mdps_ref.posterior.sampler import mdps_chain, posterior_samples

__version__ = "0.1.0"
__all__ = [
    "GUIDES",
    "Detector",
    "InputError",
    "Tensor",
    "check_pullback",
    "fast",
    "load_weights",
    "make_config",
    "mdps_chain",
    "ops",
    "posterior_samples",
    "primitive",
    "pull_back",
    "train",
    "value_and_gradient",
]
