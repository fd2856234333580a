import pytest

from worker.node import MissingServiceError, open_node
from worker.settings import Settings


def test_a_node_needs_a_database(tmp_path):
    with pytest.raises(MissingServiceError, match="GLIOGRADE_DATABASE_URL"):
        open_node(Settings(data_folder=tmp_path / "data"))
