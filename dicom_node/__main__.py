"""`python -m dicom_node`: the Storage SCP in the foreground, until SIGTERM or SIGINT."""

import logging
import signal
import sys
from typing import Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from dicom_node.audit import AuditSpool
from dicom_node.quiet import silence_libraries
from dicom_node.scp import ScpError, StorageScp
from dicom_node.settings import NodeSettings, settings_line
from dicom_node.spool import Spool

logger = logging.getLogger("dicom_node")

_STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


def main() -> int:
    """Run the node; 0 after a clean stop, 2 where it can't start, with one line that says why."""
    # Blocked before the first thread starts, so that the signal waits for sigwait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    silence_libraries()
    try:
        settings = NodeSettings()
        spool = Spool(settings.spool_folder, settings.minimum_free_bytes)
        audit = AuditSpool(settings.audit_folder)
        with StorageScp(settings, spool, audit) as scp:
            audit.activity("started", settings.ae_title)
            logger.info("ready: %s listens on %s:%d", settings.ae_title, settings.bind_address, scp.port)
            number = signal.sigwait(_STOP_SIGNALS)
            logger.info("stopping on %s", signal.Signals(number).name)
        audit.activity("stopped", settings.ae_title)
    except (ValidationError, SettingsError) as error:
        return _refuse(settings_line(error))
    except OSError as error:
        return _refuse(f"the spool folder can't be used: {error.strerror}")
    except ScpError as error:
        return _refuse(str(error))
    return 0


def _refuse(line: str) -> int:
    sys.stderr.write(f"gliograde node does not start: {line}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
