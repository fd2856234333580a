"""The command line as a person calls it."""

import os
import subprocess
import sys

import psutil


def gliograde(*arguments, **environment):
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160", **environment},
        timeout=540,
    )


def processes_naming(folder):
    """Command lines of the processes whose command line or environment names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join([*process.cmdline(), *process.environ().values()]):
                found.append(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
