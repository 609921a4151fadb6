"""Diffusion: the noise schedule, the forward process, and one step of the way back."""
