"""The command line as a person calls it."""

import os
import subprocess
import sys

import psutil


def gliograde(*arguments, **environment):
    """Run the command to its end; one that takes too long is asked to stop what it started, then to end."""
    words = [sys.executable, "-m", "worker.cli", *map(str, arguments)]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160", **environment},
    ) as process:
        try:
            out, error = process.communicate(timeout=540)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, error)


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
