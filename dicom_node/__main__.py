"""`python -m dicom_node`: the Storage SCP in the foreground, until SIGTERM or SIGINT."""

import logging
import signal
import sys

from pydantic import ValidationError
from pydantic_settings import SettingsError

from dicom_node.audit import AuditSpool
from dicom_node.installation import DataFolderError, open_installation
from dicom_node.logs import configure_logging
from dicom_node.quiet import silence_libraries
from dicom_node.receiving.dispatcher import STOP_SIGNALS, Dispatcher
from dicom_node.receiving.handover import Handover
from dicom_node.receiving.scp import PortInUseError, ScpError, StorageScp, allow_list_of, check_settings
from dicom_node.receiving.spool import Spool
from dicom_node.settings import NodeSettings, settings_line

logger = logging.getLogger("dicom_node")


def main() -> int:
    """Run the node; 0 after a clean stop, 2 where it can't start, with one line that says why."""
    # Blocked before the first thread starts, so that the signal waits for who asks for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    silence_libraries()
    try:
        settings = NodeSettings()
        configure_logging(settings.log_format)
        check_settings(settings)
        open_installation(settings.data_folder)
        Spool(settings.spool_folder)
        number = _receive(settings, AuditSpool(settings.audit_folder))
        logger.info("stopped on %s", number.name)
    except (ValidationError, SettingsError) as error:
        return _refuse(settings_line(error))
    except OSError as error:
        return _refuse(f"the data folder can't be used: {error.strerror}")
    except (DataFolderError, ScpError) as error:
        return _refuse(str(error))
    return 0


def _receive(settings: NodeSettings, audit: AuditSpool) -> signal.Signals:
    """Receive in one or more processes of its own until a stop signal comes; returns that."""

    def serve(handover: Handover) -> None:
        spool = Spool(settings.spool_folder, settings.minimum_free_bytes)
        with StorageScp(settings, spool, AuditSpool(settings.audit_folder), handover):
            signal.sigwait(STOP_SIGNALS)

    def ready() -> None:
        audit.activity("started", settings.ae_title)
        logger.info(
            "ready: %s listens on %s:%d", settings.ae_title, settings.bind_address, settings.dicom_port
        )

    address = (settings.bind_address, settings.dicom_port)
    try:
        dispatcher = Dispatcher(address, settings.receiving_processes, allow_list_of(settings), serve)
    except OSError as error:
        raise PortInUseError.at(settings, error) from error
    number = dispatcher.run(ready, settings.drain_timeout)
    audit.activity("stopped", settings.ae_title)
    return number


def _refuse(line: str) -> int:
    sys.stderr.write(f"gliograde node does not start: {line}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
