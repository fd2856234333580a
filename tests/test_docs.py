"""The documentation names only what exists."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def test_each_fault_test_that_the_table_names_exists():
    table = (REPOSITORY / "docs" / "faults.md").read_text()
    named = re.findall(r"`(test_\w+\.py)` ((?:`test_\w+`(?:, )?)+)", table)
    assert len(named) > 20
    for module, tests in named:
        source = (REPOSITORY / "tests" / "faults" / module).read_text()
        for name in re.findall(r"test_\w+", tests):
            assert f"def {name}(" in source
