"""The faults of the soak, and a stand-in PACS that can be down or cut the line."""

import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from celery import Celery
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from dicom_node.peers.stand_in_pacs import Fault, StandInPacs, StoredInstance
from tests.faults.service import Service
from worker.records.database import Job
from worker.records.ledger import Hint
from worker.states import STEPS
from worker.upkeep.hints import send_destination_hint, send_hint

CUT_SHARE = 0.2
HINT_COPIES = 50


class SoakPacs(StandInPacs):
    """Remembers when what came, byte for byte; `cutting`: it stores some objects and then cuts the line."""

    def __init__(self, folder: Path, port: int, random_source: random.Random) -> None:
        super().__init__(folder, port=port, status_hook=self._notice)
        self._random = random_source
        self.cutting = False
        self.digests: defaultdict[str, set[str]] = defaultdict(set)
        self.came_at: dict[str, float] = {}
        self.cuts = 0

    def _notice(self, instance: StoredInstance) -> Fault | None:
        self.digests[instance.sop_instance_uid].add(instance.path.stem)
        self.came_at.setdefault(instance.sop_instance_uid, time.monotonic())
        if self.cutting and self._random.random() < CUT_SHARE:
            self.cuts += 1
            return Fault.CUT_AFTER_STORING
        return None

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()


class Faults:
    """One after another, each mended after some seconds; every kind comes before any comes again."""

    def __init__(
        self, service: Service, pacs: SoakPacs, workers: Sequence[str], random_source: random.Random
    ) -> None:
        self._service, self._pacs, self._workers, self._random = service, pacs, workers, random_source
        self.count: Counter[str] = Counter()
        self.kinds: dict[str, Callable[[], None]] = {
            "node killed": self.kill_node,
            "worker killed": self.kill_worker,
            "worker stopped past its lease": self.stop_worker,
            "sender killed": self.kill_sender,
            "beat killed": self.kill_beat,
            "Redis flushed": self.flush_redis,
            "Redis killed": self.kill_redis,
            "PostgreSQL stopped at once": self.stop_postgres,
            "PACS down": self.pacs_down,
            "PACS stores and cuts the line": self.pacs_cuts,
            f"{HINT_COPIES} copies of every hint": self.duplicate_hints,
        }

    def run(self, per_minute: float, over: threading.Event) -> None:
        deck: list[str] = []
        due = time.monotonic()
        while True:
            due += 60 / per_minute * self._random.uniform(0.5, 1.5)
            if over.wait(max(0.0, due - time.monotonic())):
                return
            if not deck:
                deck = self._random.sample(list(self.kinds), len(self.kinds))
            name = deck.pop()
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}\n")
            self.kinds[name]()
            self.mend()
            self.count[name] += 1

    def mend(self) -> None:
        """Start whatever isn't running, as a supervisor would."""
        self._service.postgres.ensure_postgres_running()
        self._service.start_redis()
        self._service.start_node()
        self._service.start_beat()
        for name in self._workers:
            self._start_worker(name)
        self._service.start_worker("sender", queues="send")

    def kill_node(self) -> None:
        self._service.kill("node")
        self._pause(0, 3)
        self._service.start_node()

    def kill_worker(self) -> None:
        name = self._random.choice(self._workers)
        self._service.kill(name)
        self._pause(0, 3)
        self._start_worker(name)

    def stop_worker(self) -> None:
        name = self._random.choice(self._workers)
        self._service.kill(name, signal.SIGSTOP)
        self._pause(1, 5, least=self._service.settings.lease.total_seconds())
        self._service.kill(name, signal.SIGCONT)

    def kill_sender(self) -> None:
        self._service.kill("sender")
        self._pause(0, 3)
        self._service.start_worker("sender", queues="send")

    def kill_beat(self) -> None:
        self._service.kill("beat")
        self._pause(0, 5)
        self._service.start_beat()

    def flush_redis(self) -> None:
        with contextlib.closing(self._service.redis_client()) as client:
            client.flushall()

    def kill_redis(self) -> None:
        self._service.kill("redis")
        self._pause(0, 10)
        self._service.start_redis()

    def stop_postgres(self) -> None:
        self._service.crash_postgres()
        self._pause(0, 10)
        self._service.postgres.ensure_postgres_running()

    def pacs_down(self) -> None:
        with self._pacs.down():
            self._pause(5, 20)

    def pacs_cuts(self) -> None:
        self._pacs.cutting = True
        self._pause(10, 30)
        self._pacs.cutting = False

    def duplicate_hints(self) -> None:
        try:
            with self._service.sessions() as session:
                waiting = session.execute(select(Job.id, Job.state).where(Job.ended_at.is_(None))).all()
        except OperationalError:
            return
        broker = self._service.settings.redis_url
        assert broker is not None
        app = Celery(broker=broker.get_secret_value())
        for _ in range(HINT_COPIES):
            for job_id, state in waiting[:10]:
                if state in STEPS:
                    send_hint(app, Hint(job_id, state))
            send_destination_hint(app, 1)
        app.close()

    def _start_worker(self, name: str) -> None:
        self._service.start_worker(name, "tests.faults.quick_worker", "cpu,gpu")

    def _pause(self, shortest: float, longest: float, least: float = 0.0) -> None:
        time.sleep(least + self._random.uniform(shortest, longest))
