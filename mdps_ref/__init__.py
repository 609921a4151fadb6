"""Masked Diffusion Posterior Sampling (Wu et al., IJCAI 2024) from scratch in NumPy; the README gives the reading order."""

__version__ = "0.1.0"
