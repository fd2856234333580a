"""The documentation names only what exists, and every setting."""

import dataclasses
import re
import shutil
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.main import get_command

from dicom_node.peers.scu import Destination
from dicom_node.peers.stow import WebDestination
from dicom_node.reading.site_rules import SiteRule
from dicom_node.receiving.spool import Spool
from dicom_node.settings import AllowedPeer
from dicom_node.tls import TlsFiles, client_context, server_context
from tests.settings_page import NAMES, names, split_page, table
from tests.worker.samples import make_header, spool_object
from worker.cli import app

REPOSITORY = Path(__file__).parent.parent
OPERATE = REPOSITORY / "docs" / "operate.md"


def test_each_fault_test_that_the_table_names_exists():
    table = (REPOSITORY / "docs" / "faults.md").read_text()
    named = re.findall(r"`(test_\w+\.py)` ((?:`test_\w+`(?:, )?)+)", table)
    assert len(named) > 20
    for module, tests in named:
        source = (REPOSITORY / "tests" / "faults" / module).read_text()
        for name in re.findall(r"test_\w+", tests):
            assert f"def {name}(" in source


def test_each_command_that_the_documentation_names_exists():
    commands = get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    for page in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL))
        named = re.findall(r"(?:`|bin/|^ *)gliograde ([a-z][a-z-]*)([^`\n]*)", code, re.MULTILINE)
        for name, rest in named:
            assert name in commands, f"{page.name}: gliograde {name}"
            command = commands[name]
            if inner := getattr(command, "commands", None):
                word = rest.split()[0]
                assert word in inner, f"{page.name}: gliograde {name} {word}"
                command = inner[word]
            options = {option for parameter in command.params for option in parameter.opts}
            unknown = set(re.findall(r"(?<= )--[a-z-]+", rest)) - options
            assert not unknown, f"{page.name}: gliograde {name}"


def test_the_restore_of_the_handbook_brings_the_spool_back_into_the_inbox(tmp_path):
    spool = Spool(tmp_path / "spool")
    entry = spool_object(spool, make_header())
    spool.mark_indexed([entry])
    assert list(spool.entries()) == []
    (code,) = re.findall(r"^python -c '(.+)' \S+$", OPERATE.read_text(), re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "spool"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert len(list(spool.entries())) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_certificates_of_the_installation_page_let_a_peer_in(tmp_path):
    page = (REPOSITORY / "docs" / "install.md").read_text()
    (script,) = re.findall(r"```sh\n(openssl req.+?)```", page, re.DOTALL)
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, check=True)
    files = TlsFiles(
        certificate=tmp_path / "node.crt", key=tmp_path / "node.key", authority=tmp_path / "authority.crt"
    )
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server_context(files).wrap_bio(server, client, server_side=True)
    theirs = client_context(files).wrap_bio(client, server, server_hostname="gliograde.example.org")
    for side in (theirs, ours, theirs):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    ours.do_handshake()
    assert theirs.getpeercert() == ours.getpeercert() != {}


def test_the_handbook_has_a_row_for_each_line_of_the_doctor():
    rows = re.findall(r"^\| (`.+?`) \|", OPERATE.read_text(), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(.+?)`", row)}
    modules = ("doctor.py", "doctor_ledger.py")
    sources = "".join((REPOSITORY / "worker" / "commands" / name).read_text() for name in modules)
    # a check's name stands first in its finding, or in a variable `check`, or before its peer
    named = re.findall(
        r'(?:check(?:, folder)? = |\b(?:ok|warning|failed|Finding)\(\s*|\()f?"([a-z][a-z {}.-]+)"', sources
    )
    assert {re.sub(r"\{.+?\}", "…", name) for name in named} == told


def test_the_settings_page_holds_every_setting_with_its_default_and_description():
    _, found, _ = split_page()
    assert found == table(), "write it anew: python -m tests.settings_page"


def test_the_receiver_knows_the_names_of_the_settings_that_are_not_its_own():
    assert NAMES.read_text() == names(), "write it anew: python -m tests.settings_page"


def test_the_settings_page_names_each_key_of_the_settings_that_are_tables():
    _, _, page = split_page()
    kinds = (Destination, WebDestination, TlsFiles)
    fields = {item.name for kind in kinds for item in dataclasses.fields(kind)}
    keys = fields | AllowedPeer.model_fields.keys() | SiteRule.model_fields.keys()
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_each_link_of_the_documentation_leads_to_a_file():
    for page in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
