import os
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes says more of the machine than of the code
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data():
    """Folder of real cases; tests that use it carry the mark `data`."""
    return REAL_DATA


def pytest_collection_modifyitems(items):
    """Skip what this machine has no parts for, saying which part."""
    for item in items:
        if item.get_closest_marker("data") and not REAL_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="needs the real cases of ../shared/data"))
        if item.get_closest_marker("apt") and not Path("/usr/bin/dsrdump").exists():
            item.add_marker(pytest.mark.skip(reason="needs the Debian package dcmtk"))


@pytest.fixture(autouse=True, scope="session")
def clean_environment():
    """No setting of the person who runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith("GLIOGRADE_")]:
        del os.environ[name]
