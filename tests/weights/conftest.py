"""What the tests of others' files share: reading a file of given bytes."""

import pytest
from helpers import bits

from mdps_ref.errors import InputError
from mdps_ref.weights.state_dict import read_state_dict


@pytest.fixture(scope="session")
def read(tmp_path_factory):
    """read(content): the arrays of a file with these bytes."""
    path = tmp_path_factory.mktemp("state") / "weights.pth"

    def read_bytes(content):
        path.write_bytes(content)
        return read_state_dict(path)

    return read_bytes


@pytest.fixture(scope="session")
def outcome(read):
    """outcome(content): the dtype, shape and bytes of each array, or "refused" if reading raises an InputError of one line."""

    def read_or_refuse(content):
        try:
            return bits(read(content))
        except InputError as error:
            assert "\n" not in str(error)
            return "refused"

    return read_or_refuse
