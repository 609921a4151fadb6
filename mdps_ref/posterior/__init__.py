"""Sampling clean images that agree with a test image: the masked noisy observation, guidance, the mask, the chain."""
