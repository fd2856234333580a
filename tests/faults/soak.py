"""`python -m tests.faults.soak --studies N --minutes M`: catalogue case 45.

A whole service as real processes, studies sent evenly over the time, faults drawn at random all the while.
Then it is left in peace until all is done, and the books are compared. The network alone is a stand-in, for a
GPU (`tests.faults.quick_worker`). Exit code 0: nothing lost, nothing twice, nothing grows.
"""

import argparse
import itertools
import random
import shutil
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import func, select

from dicom_node.peers.scu import AssociationError, Sent, send
from dicom_node.reading.mr_study import save_study
from tests.faults.conftest import series_of
from tests.faults.processes import PATIENCE
from tests.faults.service import Service, dataset_sha256, header, wait_for
from tests.faults.soak_faults import Faults, SoakPacs
from tests.faults.soak_figures import Sampler
from tests.faults.soak_verdict import Books, compare
from worker.records.database import Job, Study
from worker.states import StudyState

HOSPITAL_STUDIES_PER_DAY = 400
WORKERS = ("worker-1", "worker-2")
SENDING_PEERS = 4
RETRY_S = 0.5
QUIET = timedelta(seconds=15)
"""Longer than the node is ever away: else the rest of a study that it was killed in would be late slices."""
STABLE_STUDIES = select(func.count()).where(Study.state == StudyState.STABLE)
ENDED_JOBS = select(func.count()).where(Job.ended_at.is_not(None))
WAITING_JOBS = select(func.count()).where(Job.ended_at.is_(None))


@dataclass
class Acknowledged:
    """A study all of whose objects were answered with Success."""

    study_instance_uid: str
    patient_id: str
    sha256: frozenset[str]
    at: float = field(default_factory=time.monotonic)


class Hospital:
    """Scanners that send studies, each object until it is acknowledged."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder = service, folder
        self.acknowledged: list[Acknowledged] = []
        self.associations = 0

    def send(self, number: int) -> None:
        name = f"soak-{number}"
        patient_id = f"PAT-{name}"
        study, files, uid = header(name, patient_id), [], ""
        for series_number, contrast in enumerate(("flair", "t2", "t1ce"), start=1):
            series = series_of(contrast, series_number, study, seed=number)
            uid = str(series[0].StudyInstanceUID)
            files += save_study(series, self._folder / name / contrast)
        digests = frozenset(dataset_sha256(path) for path in files)
        outstanding = files
        while outstanding:
            try:
                self.associations += 1
                outcomes = list(send(outstanding, self._service.receiver))
            except AssociationError:
                time.sleep(RETRY_S)
                continue
            outstanding = [outcome.path for outcome in outcomes if outcome.outcome is not Sent.SENT]
        self.acknowledged.append(Acknowledged(uid, patient_id, digests))
        shutil.rmtree(self._folder / name)


def start_all(service: Service) -> None:
    service.start_redis()
    service.start_node()
    service.start_beat()
    for name in WORKERS:
        service.start_worker(name, "tests.faults.quick_worker", "cpu,gpu")
    service.start_worker("sender", queues="send")
    wait_for(service.answers_echo, "the Storage SCP")


def send_studies(hospital: Hospital, count: int, duration: timedelta) -> None:
    """Send studies evenly over the time; returns when all of them are acknowledged."""
    began, interval = time.monotonic(), duration.total_seconds() / count
    with ThreadPoolExecutor(SENDING_PEERS) as peers:
        sent = []
        for number in range(count):
            time.sleep(max(0.0, began + number * interval - time.monotonic()))
            sent.append(peers.submit(hospital.send, number))
        for each in sent:
            each.result()


def wait_until_quiet(service: Service, count: int) -> float:
    """Wait until nothing is left to do, for as long as something is done; the seconds that it took."""
    began = last_change = time.monotonic()
    before: list[int] = []
    while time.monotonic() - last_change < PATIENCE:
        now = [service.scalar(statement) for statement in (STABLE_STUDIES, ENDED_JOBS, WAITING_JOBS)]
        stable, _, waiting = now
        if stable == count and waiting == 0:
            break
        if now != before:
            before, last_change = now, time.monotonic()
        time.sleep(1)
    return time.monotonic() - began


def run(arguments: argparse.Namespace, folder: Path) -> bool:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        node_port, pacs_port = one.getsockname()[1], other.getsockname()[1]
    random_source = random.Random(arguments.seed)
    duration = timedelta(minutes=arguments.minutes)
    with SoakPacs(folder / "pacs", pacs_port, random_source) as pacs:
        service = Service(
            folder,
            node_port,
            pacs,
            maximum_images=arguments.images,
            quiet_period=QUIET,
            send_first_delay=timedelta(seconds=1),
            send_longest_delay=timedelta(seconds=5),
        )
        with service.postgres:
            try:
                start_all(service)
                faults = Faults(service, pacs, WORKERS, random_source)
                sampler = Sampler(service, timedelta(minutes=arguments.warm_up))
                hospital = Hospital(service, folder / "scanners")
                over = threading.Event()
                with ThreadPoolExecutor(2) as others:
                    running = [
                        others.submit(faults.run, arguments.faults_per_minute, over),
                        others.submit(sampler.run, over),
                    ]
                    try:
                        send_studies(hospital, arguments.studies, duration)
                    finally:
                        over.set()
                    for each in running:
                        each.result()
                faults.mend()
                drained = wait_until_quiet(service, arguments.studies)
                books = compare(service, pacs, hospital.acknowledged)
                return report(arguments, faults, sampler, hospital, books, drained)
            finally:
                service.close()


def report(
    arguments: argparse.Namespace,
    faults: Faults,
    sampler: Sampler,
    hospital: Hospital,
    books: Books,
    drained: float,
) -> bool:
    """Print the figures; whether all is well."""
    per_day = arguments.studies / arguments.minutes * 24 * 60
    growth = sampler.growth()
    rows = [
        ("studies sent, in minutes", f"{arguments.studies} in {arguments.minutes:g}"),
        ("times a hospital's 400 MR studies a day", f"{per_day / HOSPITAL_STUDIES_PER_DAY:.0f}"),
        ("objects acknowledged", str(sum(len(each.sha256) for each in hospital.acknowledged))),
        ("associations they took", str(hospital.associations)),
        ("faults", str(sum(faults.count.values()))),
        *((f"    {name}", str(number)) for name, number in sorted(faults.count.items())),
        ("seconds until all was done afterwards", f"{drained:.0f}"),
        *books.rows(),
        *growth.rows(),
    ]
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in rows))
    for line in itertools.chain(books.complaints, growth.complaints):
        sys.stdout.write(f"NOT WELL: {line}\n")
    return not books.complaints and not growth.complaints


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--faults-per-minute", type=float, default=1)
    parser.add_argument("--seed", type=int, default=45)
    parser.add_argument("--images", type=int, default=3, help="attention images of one study")
    parser.add_argument("--warm-up", type=float, default=1, help="minutes of each process not judged")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, and to leave")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        return int(not run(arguments, arguments.keep))
    with TemporaryDirectory(prefix="gliograde-soak-") as name:
        return int(not run(arguments, Path(name)))


if __name__ == "__main__":
    sys.exit(main())
