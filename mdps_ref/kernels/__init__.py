"""Fast twins of some primitives in one table, and replays of small networks; `with fast():` switches both on."""

from mdps_ref.kernels.table import fast

__all__ = ["fast"]
