"""Time docs/query.md's queries and a scrape on a million results: `python -m benchmarks.queries [results]`.

Fills a throw-away PostgreSQL with studies over ten years, each graded once and one in twenty twice, with
two deliveries a result, one held job in a hundred, and feedback on two studies in a hundred.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine, event, text

from worker.records.database import create_ledger_engine
from worker.records.schema import upgrade_schema
from worker.running.embedded import embedded_postgres_url
from worker.settings import Settings
from worker.upkeep.metrics import LedgerCollector

PAGE = Path(__file__).parent.parent / "docs" / "query.md"
REPEATS = 5

FILL = """
INSERT INTO study (study_instance_uid, patient_id, issuer_of_patient_id, patient_name, patient_birth_date,
                   patient_sex, accession_number, study_date, study_description, state, last_instance_at)
SELECT '2.25.' || i, 'P' || i, '', '', '', '', 'A' || lpad(i::text, 7, '0'), '', '', 'stable',
       now() - (:studies - i) * interval '10 years' / :studies
FROM generate_series(1, :studies) i;
INSERT INTO series (study_id, series_instance_uid, modality, series_description)
SELECT id, '1', 'MR', '' FROM study;
INSERT INTO instance (series_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, sha256, size_bytes,
                      calling_ae_title, received_at)
SELECT id, '2.25.' || id, '1.2.3', '1.2.3', 'x', 1, 'PACS', now() FROM series;
INSERT INTO study_version (study_id, number, manifest_sha256, frozen_at, received_at)
SELECT id, 1, id::text, last_instance_at, last_instance_at FROM study;
INSERT INTO result (study_id, result_uid, verdict, grade, probability, threshold, slice_count, model_name,
                    model_version, checkpoint_sha256, trained_on_simulated, pipeline_version, is_replaced,
                    manufacturer, manufacturer_model_name, station_name, created_at)
SELECT id, 'a' || id, 'graded', CASE WHEN id % 3 = 0 THEN 'LGG' ELSE 'HGG' END, (id % 1000) / 1000.0, 0.5, 24,
       'net', '1', 'one', true, '1', id % 20 = 0, 'Maker ' || id % 3, 'Model ' || id % 6,
       'STATION' || id % 12, last_instance_at + interval '40 s'
FROM study;
INSERT INTO result (study_id, result_uid, verdict, grade, probability, threshold, slice_count, model_name,
                    model_version, checkpoint_sha256, trained_on_simulated, pipeline_version, predecessor_id,
                    created_at)
SELECT study_id, 'b' || study_id, 'graded', 'HGG', 0.8, 0.5, 24, 'net', '2', 'two', true, '1', id,
       created_at + interval '1 h'
FROM result WHERE study_id % 20 = 0;
INSERT INTO job (study_version_id, state, result_id, ended_at)
SELECT v.id, CASE WHEN v.id % 100 = 0 THEN 'held' ELSE 'done' END, r.id, r.created_at + interval '10 s'
FROM study_version v JOIN result r ON r.study_id = v.study_id AND r.predecessor_id IS NULL;
INSERT INTO result_object (result_id, position, sop_class_uid, sop_instance_uid, series_instance_uid, sha256,
                           size_bytes)
SELECT id, p, '1.2.3', id || '.' || p, '1', 'x', 1 FROM result, generate_series(0, 1) p;
INSERT INTO destination_state (name) VALUES ('pacs');
INSERT INTO delivery (result_object_id, destination, state, sent_at, failed_at)
SELECT o.id, 'pacs', CASE WHEN o.id % 1000 = 0 THEN 'failed' ELSE 'sent' END,
       CASE WHEN o.id % 1000 <> 0 THEN r.created_at + interval '9 s' END,
       CASE WHEN o.id % 1000 = 0 THEN r.created_at + interval '9 s' END
FROM result_object o JOIN result r ON r.id = o.result_id;
INSERT INTO feedback (study_id, grade, source, given_by)
SELECT id, 'HGG', 'pathology', 'someone' FROM study WHERE id % 50 = 0;
"""


def fill(engine: Engine, results: int) -> None:
    """Write about `results` results and what hangs on them."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        for statement in FILL.split(";\n"):
            if statement.strip():
                connection.execute(text(statement), {"studies": results * 20 // 21})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))


def measure(ask: Callable[[], object]) -> list[float]:
    """Milliseconds of each repetition, after one that warms the cache."""
    taken = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - begun) * 1000)
    return taken[1:]


def buffers(engine: Engine, ask: Callable[[], object]) -> int:
    """Pages of 8 KiB that a warm run touches: the same on a busy machine as on an idle one."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:  # noqa: ANN401 - the driver's
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    pages = 0
    with engine.connect() as connection:
        for statement, parameters in asked:
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            plan = connection.exec_driver_sql(explain, parameters).scalar_one()[0]["Plan"]
            pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return pages


def asker(engine: Engine, query: str) -> Callable[[], object]:
    """Ask one query."""

    def ask() -> None:
        with engine.connect() as connection:
            connection.execute(text(query)).all()

    return ask


def main() -> None:
    """Fill, then print a line a query."""
    results = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    queries = re.findall(r"^## (.+?)$.*?^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with (
        TemporaryDirectory(prefix="gliograde-queries-") as folder,
        embedded_postgres_url(Path(folder)) as url,
    ):
        engine = create_ledger_engine(url)
        upgrade_schema(engine)
        fill(engine, results)
        with engine.connect() as connection:
            count = connection.scalar(text("SELECT count(*) FROM result"))
        print(f"{count} results")
        scrape = LedgerCollector(engine, Settings(data_folder=Path(folder)))
        asked = {title: asker(engine, query) for title, query in queries}
        for title, ask in (asked | {"A scrape of the metrics": lambda: list(scrape.collect())}).items():
            taken = measure(ask)
            print(
                f"{title:40} median {statistics.median(taken):7.1f} ms, slowest {max(taken):7.1f} ms, "
                f"{buffers(engine, ask):7} pages"
            )
        engine.dispose()


if __name__ == "__main__":
    main()
