import sys
from datetime import UTC

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.command import gliograde
from tests.worker.test_tables import standings  # noqa: F401 - a fixture
from worker.answers.parquet import ParquetError, write_parquet
from worker.answers.tables import COLUMNS, result_records


def test_a_file_read_back_says_what_the_ledger_says(tmp_path, standings):  # noqa: F811
    write_parquet(standings, tmp_path / "results.parquet")
    table = parquet.read_table(tmp_path / "results.parquet")
    rows, records = table.to_pylist(), result_records(standings)
    moments = ("received_at", "ended_at")
    assert [row["received_at"] for row in rows] == [item.first_instance_at for item in standings]
    assert [row["ended_at"] for row in rows] == [item.ended_at for item in standings]
    for row, record in zip(rows, records, strict=True):
        assert {name: row[name] for name in row.keys() - moments} == {
            name: record[name] for name in record.keys() - moments
        }


def test_each_column_has_its_type_even_without_rows(tmp_path):
    write_parquet([], tmp_path / "results.parquet")
    schema = parquet.read_schema(tmp_path / "results.parquet")
    assert schema.names == list(COLUMNS)
    assert schema.field("received_at").type == pa.timestamp("us", tz=str(UTC))
    assert pa.types.is_dictionary(schema.field("grade").type)
    kinds = {name: str(schema.field(name).type) for name in ("study_id", "probability", "is_calibrated")}
    assert kinds == {"study_id": "int64", "probability": "double", "is_calibrated": "bool"}
    assert str(schema.field("study_instance_uid").type) == "string"


def test_without_pyarrow_it_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ParquetError, match=r"pip install 'gliograde\[parquet\]'"):
        write_parquet([], tmp_path / "results.parquet")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(ParquetError, match="nowhere"):
        write_parquet([], tmp_path / "nowhere" / "results.parquet")


def test_the_command_writes_a_file_and_asks_for_its_name(tmp_path, database_url):
    environment = {"GLIOGRADE_DATABASE_URL": database_url, "GLIOGRADE_DATA_FOLDER": str(tmp_path / "data")}
    path = tmp_path / "results.parquet"
    done = gliograde("results", "--format", "parquet", "--out", path, **environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert parquet.read_table(path).num_rows == 0
    refused = gliograde("results", "--format", "parquet", **environment)
    assert refused.returncode == 2
    assert "--out" in refused.stderr
    shown = gliograde("results", "--format", "csv", "--out", tmp_path / "results.csv", **environment)
    assert (shown.returncode, shown.stdout) == (0, "")
    assert (tmp_path / "results.csv").read_text().startswith("study_id,")
