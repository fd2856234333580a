"""`python -m tests.faults.failing_node`: a Storage SCP that is killed between the final name and the answer.

FAIL_AT says after how many objects. Patched where it is imported: a process that this one forks or spawns
fails too.
"""

import os
import signal
import sys
from itertools import count

from dicom_node import __main__ as node
from dicom_node.spool import Spool

stored, store = count(1), Spool.store


def store_and_die(self, *arguments, **keywords):
    entry = store(self, *arguments, **keywords)
    if next(stored) == int(os.environ["FAIL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return entry


Spool.store = store_and_die  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(node.main())
