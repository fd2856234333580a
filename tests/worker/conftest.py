import hashlib
import itertools
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

import model.space.preprocess
from dicom_node.audit import AuditSpool
from dicom_node.installation import open_installation
from dicom_node.receiving.spool import Spool
from model.card import read_card
from tests.checkpoints import copy_without_gates
from worker.node import Node
from worker.records.database import create_ledger_engine
from worker.records.schema import upgrade_schema
from worker.running.embedded import embedded_postgres_url
from worker.settings import Settings

counter = itertools.count()
REMEMBERED = 6


@pytest.fixture(scope="session")
def postgres_url():
    """A real PostgreSQL server; the database of this URL is migrated and used as a template only."""
    with TemporaryDirectory(prefix="gliograde-test-") as folder, embedded_postgres_url(Path(folder)) as url:
        engine = create_ledger_engine(url)
        upgrade_schema(engine)
        engine.dispose()
        yield url


@pytest.fixture(autouse=True, scope="session")
def each_study_is_registered_once():
    """Registration takes seconds; volumes that another test has prepared are not registered again."""
    prepare = model.space.preprocess.prepare_study
    known: OrderedDict[bytes, model.space.preprocess.Prepared] = OrderedDict()

    def prepare_once(volumes, plain_t1=None, *, keep_intensities=False):
        key = hashlib.sha256(bytes([keep_intensities]))
        for name, volume in [*sorted(volumes.items()), ("plain", plain_t1)]:
            key.update(name.encode())
            if volume is not None:
                key.update(str(volume.array.shape).encode() + volume.affine.tobytes())
                key.update(volume.array.tobytes())
        prepared = known.pop(key.digest(), None) or prepare(
            volumes, plain_t1, keep_intensities=keep_intensities
        )
        known[key.digest()] = prepared
        if len(known) > REMEMBERED:
            known.popitem(last=False)
        return prepared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.space.preprocess, "prepare_study", prepare_once)
        yield


@pytest.fixture
def empty_database_url(postgres_url):
    """A new database without any table."""
    yield from _new_database(postgres_url, "template1")


@pytest.fixture
def database_url(postgres_url):
    """A new database with the ledger's schema."""
    yield from _new_database(postgres_url, "gliograde")


@pytest.fixture
def engine(database_url):
    engine = create_ledger_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine):
    return sessionmaker(engine)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The shipped weights, which grade whatever they are shown."""
    return copy_without_gates(tmp_path_factory.mktemp("checkpoints") / "ungated")


@pytest.fixture
def make_node(tmp_path, sessions, spool, checkpoint):
    """A node on this test's database and folders, with further settings."""

    def make(**changes):
        folder = checkpoint
        settings = Settings(data_folder=tmp_path / "data", **changes)
        installation = open_installation(settings.data_folder)
        audit = AuditSpool(settings.audit_folder)
        return Node(settings, sessions, spool, installation, folder, read_card(folder), audit)

    return make


def _new_database(postgres_url, template):
    name = f"test_{next(counter)}"
    server = create_engine(postgres_url.replace("/gliograde?", "/postgres?"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield postgres_url.replace("/gliograde?", f"/{name}?")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()
