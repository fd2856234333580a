"""What follows from the settings themselves; `python -m tests.settings_page` writes it.

It is the table of docs/settings.md, and the names that the receiver passes over in the file.
"""

from datetime import timedelta
from pathlib import Path

from pydantic.fields import FieldInfo

from dicom_node.settings import NodeSettings
from worker.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
NAMES = Path(__file__).parent.parent / "dicom_node" / "worker_settings.py"


def split_page() -> tuple[str, str, str]:
    """The page as it is: what stands before the table, the table, and what stands after it."""
    before, begin, rest = PAGE.read_text().partition("| setting |")
    found, end, after = rest.partition("\n\n## ")
    return before, begin + found, end + after


def table() -> str:
    """One row for each setting: those that the node reads, then those that the rest reads too."""
    rows = [_row(name, Settings.model_fields[name]) for name in (*NodeSettings.model_fields, *_own())]
    return "\n".join(("| setting | default | what it is |", "|---|---|---|", *rows))


def names() -> str:
    """The module that tells the receiver which settings are not its own."""
    listed = "".join(f'        "{name}",\n' for name in _own())
    return (
        '"""Settings that only workers read, which the receiver finds in the same file.\n\n'
        'Written by `python -m tests.settings_page`.\n"""\n\n'
        f"WORKER_SETTINGS = frozenset(\n    {{\n{listed}    }}\n)\n"
    )


def _own() -> list[str]:
    return [name for name in Settings.model_fields if name not in NodeSettings.model_fields]


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_default(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    """As it would be written into the settings file; durations with their unit."""
    if field.default_factory is not None:
        return "see there"
    value = field.default
    if value is None or value == ():
        return "none"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if isinstance(value, timedelta):
        return _duration(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


if __name__ == "__main__":
    before, _, after = split_page()
    PAGE.write_text(before + table() + after)
    NAMES.write_text(names())
