"""A small array library: Tensors that remember how they were made, primitives, and their hand-derived pullbacks."""

from mdps_ref.autograd import attention, conv, norm, ops  # noqa: F401 (importing them fills the table of primitives)
