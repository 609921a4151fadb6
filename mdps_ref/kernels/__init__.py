"""Fast twins of some primitives, in one table, switched on by `with fast():`."""

from mdps_ref.kernels.table import fast

__all__ = ["fast"]
