"""Results as a Parquet file, for pandas, DuckDB, R and Spark. Needs the optional pyarrow."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from worker.answers.tables import COLUMNS
from worker.records.queries import StudyStanding

_WORDS = frozenset(
    {
        *("study_state", "completeness", "job_state", "reason_code", "verdict", "grade"),
        *("model_name", "model_version", "checkpoint_sha256"),
    }
)
"""Few words in many rows: kept as a dictionary."""
_NUMBERS = frozenset(
    {
        *("study_id", "version", "flair_series_number", "t1ce_series_number", "t2_series_number"),
        *("delivered", "deliveries"),
    }
)
_MEASURES = frozenset({"probability", "attention_ml", "appearance_distance", "seconds"})
_FLAGS = frozenset({"is_calibrated", "trained_on_simulated"})
_MOMENTS: Final[Mapping[str, Callable[[StudyStanding], datetime | None]]] = {
    "received_at": lambda item: item.first_instance_at,
    "ended_at": lambda item: item.ended_at,
}


class ParquetError(Exception):
    """No Parquet file can be written. The message says what to do."""


def write_parquet(standings: Iterable[StudyStanding], path: Path) -> None:
    """Write one row a study, with the columns of CSV; times are microseconds of UTC. Raises ParquetError."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ParquetError("Parquet needs pyarrow: pip install 'gliograde[parquet]'") from error
    rows = list(standings)
    fields = [(name, _type(pa, name)) for name in COLUMNS]
    columns = [
        pa.array([_value(row, name) for row in rows], type=kind.value_type).dictionary_encode()
        if name in _WORDS
        else pa.array([_value(row, name) for row in rows], type=kind)
        for name, kind in fields
    ]
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    try:
        parquet.write_table(table, path)
    except OSError as error:
        raise ParquetError(f"{path} can't be written: {error.strerror or type(error).__name__}") from error


def _value(row: StudyStanding, name: str) -> object:
    return _MOMENTS[name](row) if name in _MOMENTS else COLUMNS[name](row)


def _type(pa: Any, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    if name in _MOMENTS:
        return pa.timestamp("us", tz="UTC")
    if name in _WORDS:
        return pa.dictionary(pa.int32(), pa.string())
    if name in _NUMBERS:
        return pa.int64()
    if name in _MEASURES:
        return pa.float64()
    return pa.bool_() if name in _FLAGS else pa.string()
