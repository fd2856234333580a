import os
import socket
from datetime import timedelta

import psutil
import pytest

from dicom_node.receiving.open_associations import OpenAssociations, studies_being_sent

LONG = timedelta(hours=1)


@pytest.fixture
def associations(tmp_path):
    return OpenAssociations(tmp_path)


def test_a_study_is_being_sent_until_every_association_for_it_closes(associations, tmp_path):
    associations.delivered("a", "1.2.3")
    associations.delivered("a", "1.2.4")
    associations.delivered("b", "1.2.3")
    assert studies_being_sent(tmp_path, LONG) == {"1.2.3", "1.2.4"}
    associations.closed("a")
    assert studies_being_sent(tmp_path, LONG) == {"1.2.3"}
    associations.closed("b")
    associations.closed("b")
    assert studies_being_sent(tmp_path, LONG) == frozenset()
    assert list((tmp_path / "open").iterdir()) == []


def test_a_silent_association_is_not_waited_for(associations, tmp_path):
    associations.delivered("a", "1.2.3")
    [marker] = (tmp_path / "open").iterdir()
    os.utime(marker, (0, 0))
    assert studies_being_sent(tmp_path, LONG) == frozenset()
    assert not marker.exists()
    associations.delivered("a", "1.2.4")
    associations.closed("a")


def test_the_markers_of_a_process_that_is_gone_count_no_more(associations, tmp_path):
    dead = next(pid for pid in range(2**21, 1, -1) if not psutil.pid_exists(pid))
    (tmp_path / "open" / "x").write_text(f"{socket.gethostname()} {dead}\n1.2.3\n")
    (tmp_path / "open" / "y").write_text(f"elsewhere {dead}\n1.2.4\nhalf a line")
    assert studies_being_sent(tmp_path, LONG) == {"1.2.4"}


def test_a_marker_that_cannot_be_written_stops_nothing(associations, tmp_path):
    (tmp_path / "open").rmdir()
    associations.delivered("a", "1.2.3")
    associations.closed("a")
    assert studies_being_sent(tmp_path, LONG) == frozenset()
