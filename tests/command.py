"""The command line as a person calls it."""

import os
import subprocess
import sys

import psutil


def gliograde(*arguments, **environment):
    """Run the command to its end; one that takes too long ends with what it started."""
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
        finally:
            _end(process)
    return subprocess.CompletedProcess(words, process.returncode, out, error)


def _end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=45)
        except subprocess.TimeoutExpired:
            process.kill()


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
