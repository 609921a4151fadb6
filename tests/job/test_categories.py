"""The table of metrics on the terminal."""

import re

from mdps_ref.job.categories import COLUMNS, table_of


def test_each_number_ends_below_its_column_name():
    values = [1.0, 0.25, 0.5, 0.00125, None, 12345.6789]
    heads, first, failed = table_of({"gasket with a long name": dict(zip(COLUMNS, values, strict=True)), "nut": None}).splitlines()
    ends = [match.end() for match in re.finditer(r"\S+( \S+)?(?=  |$)", heads)]
    words = list(re.finditer(r"\S+", first))[-len(COLUMNS) :]
    assert [match.end() for match in words] == ends and len(ends) == len(COLUMNS)
    assert [match.group() for match in words] == ["1.0000", "0.2500", "0.5000", "0.0013", "-", "12345.6789"]
    assert failed.split() == ["nut", "failed"]
