import itertools
import socket
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dicom_node.peers.stand_in_pacs import StandInPacs
from dicom_node.reading.mr_study import PROTOCOL, build_mr_series, save_study
from tests.faults.service import SentStudy, Service, header
from tests.faults.small_disk import small_disk
from tests.heads import coarse_brain

numbers = itertools.count(1)


def series_of(name, number, study, seed=0):
    """A series of a brain, as small as the whole chain takes."""
    return build_mr_series(coarse_brain(seed)[name], PROTOCOL[name], study, number)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Show what the processes said to a test that failed."""
    report = yield
    if report.failed and (service := item.funcargs.get("running")):
        for log in sorted(service.folder.glob("*.log")):
            report.sections.append((log.name, "\n".join(log.read_text(errors="replace").splitlines()[-40:])))
    return report


@pytest.fixture
def make_study(tmp_path):
    """Write a new gradable study; its patient id is its own."""

    def make(name=None):
        name = name or f"study-{next(numbers)}"
        study = header(name, f"PAT-{name}")
        files, uid = [], ""
        for number, contrast in enumerate(["flair", "t2", "t1ce"], start=1):
            series = series_of(contrast, number, study)
            uid = str(series[0].StudyInstanceUID)
            files += save_study(series, tmp_path / name / contrast)
        return SentStudy(f"PAT-{name}", uid, tuple(files))

    return make


@pytest.fixture(scope="module")
def running(request):
    """A service for the tests of one file; parametrised with a size, its spool is a disk of that size."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        TemporaryDirectory(prefix="gliograde-faults-") as name,
        StandInPacs(Path(name) / "pacs") as pacs,
        ExitStack() as stack,
    ):
        made = Service(Path(name), port, pacs)
        if size := getattr(request, "param", None):
            made.disk = stack.enter_context(small_disk(Path(name) / "disk", size))
            made.settings.spool_folder.symlink_to(made.disk.folder)
        with made.postgres:
            try:
                yield made
            finally:
                made.close()


@pytest.fixture
def service(running):
    """The service, with everything up."""
    running.ensure_up()
    return running
