"""Judge a function that a reader wrote, in words: `check("E07", my_ddim_step)`."""

from mdps_ref.check.table import check, exercises

__all__ = ["check", "exercises"]
