"""`python -m tests`: every check of the project, cheapest first; stops at the first that fails."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
SCRIPTS = Path(sys.executable).parent
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
    # with another in the place of a worker that died, xdist may wait for ever (its issue 1378)
    ("pytest", "--numprocesses=auto", "--dist=loadfile", "--max-worker-restart=0"),
)


def main() -> int:
    for name, *arguments in CHECKS:
        extra = sys.argv[1:] if name == "pytest" else []
        sys.stdout.write(f"── {' '.join([name, *arguments, *extra])}\n")
        sys.stdout.flush()
        code = subprocess.run([SCRIPTS / name, *arguments, *extra], cwd=REPOSITORY, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
