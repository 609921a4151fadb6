"""MDPS itself: the masked noisy observation, guidance, the mask, and the chain that draws clean images which agree with a test image."""
