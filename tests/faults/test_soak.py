"""Catalogue case 45 in its quick form; the long one is `python -m tests.faults.soak`."""

import re
import subprocess
import sys

import pytest

from tests.faults.receiver import ROOT


@pytest.mark.slow
def test_45_a_short_soak(tmp_path):
    """Twenty studies and eight faults in a minute: nothing lost, nothing twice."""
    options = ["--studies", "20", "--minutes", "1", "--faults-per-minute", "8", "--keep", tmp_path / "soak"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    figures = dict(re.findall(r"^ *(\S.*?)  +(\S.*)$", ended.stdout, re.MULTILINE))
    assert ended.returncode == 0, ended.stdout
    assert int(figures["faults"]) > 3
    assert (figures["lost"], figures["duplicated"]) == ("0", "0")
    assert figures["studies with their one report at the PACS"] == "20"
