"""`python -m tests.faults.failing_node`: a Storage SCP that is killed between the final name and the answer.

FAIL_AT says after how many objects. The processes it receives in are forked from it and fail too, with it.
"""

import os
import signal
import sys
from itertools import count

from dicom_node import __main__ as node
from dicom_node.receiving.spool import Part

kept, keep = count(1), Part.keep


def keep_and_die(self, reception):
    entry = keep(self, reception)
    if next(kept) == int(os.environ["FAIL_AT"]):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    return entry


Part.keep = keep_and_die  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(node.main())
