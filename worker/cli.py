"""The command `gliograde`: which commands there are, and what becomes of errors that a person can mend."""

import signal
import sys
from collections.abc import Callable, Mapping

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import OperationalError

from dicom_node.installation import DataFolderError
from dicom_node.peers.scu import AssociationError
from dicom_node.reading.mr_study import NoVolumesError
from dicom_node.results.show import ShowError
from dicom_node.settings import settings_line
from model.card import CheckpointError
from model.cohorts.brats_names import CohortError
from worker.answers.parquet import ParquetError
from worker.commands import ask, checkpoints, decide, dicom, model, peers, service
from worker.commands.examples import examples_of
from worker.commands.purge import purge
from worker.commands.replay import replay_studies
from worker.commands.simulate import simulate
from worker.commands.terminal import refuse
from worker.commands.web import users, web
from worker.demonstration.demo import DemoFolderError, DemoTimeoutError
from worker.demonstration.demo_study import SendingError
from worker.node import MissingServiceError
from worker.records.database import DatabaseUrlError, is_unreachable
from worker.records.schema import SchemaError
from worker.running.embedded import EmbeddedServerError
from worker.running.processes import NotReadyError, ProcessEndedError
from worker.study.decisions import RolesError
from worker.study.incoming import NoDicomError
from worker.study.interventions import InterventionError
from worker.upkeep.purging import NotPurgeableError
from worker.version import VERSION
from worker.web.address import WebAddressError
from worker.web.users import UserError

EXPECTED_ERRORS = (
    AssociationError,
    CheckpointError,
    CohortError,
    DataFolderError,
    DatabaseUrlError,
    DemoFolderError,
    DemoTimeoutError,
    EmbeddedServerError,
    InterventionError,
    MissingServiceError,
    NoDicomError,
    NotPurgeableError,
    NotReadyError,
    NoVolumesError,
    ParquetError,
    ProcessEndedError,
    RolesError,
    SchemaError,
    SendingError,
    ShowError,
    UserError,
    WebAddressError,
)
"""What a person can mend: told in one line, without a traceback."""

COMMANDS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "Run": {"demo": service.demo, "up": service.up, "web": web},
    "Ask": {"status": ask.status, "results": ask.results, "study": ask.tell_study},
    "Decide": {
        "roles": decide.roles,
        "retry": decide.retry,
        "release": decide.release,
        "dismiss": decide.dismiss,
        "feedback": decide.feedback,
    },
    "Look after it": {
        "doctor": service.doctor,
        "migrate": service.migrate,
        "purge": purge,
        "metrics": service.metrics,
        "audit": ask.audit,
    },
    "Classifier": {
        "evaluate": model.evaluate,
        "train": model.train,
        "cross-validate": model.cross_validate,
        "replay": replay_studies,
        "simulate": simulate,
    },
    "DICOM": {
        "make-study": dicom.make_study,
        "show": dicom.show,
        "conformance": dicom.conformance,
    },
}
"""Each command by its name, under the heading that `--help` gives it."""

app = typer.Typer(
    help="Grade gliomas in brain MR studies, beside a PACS. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel, epilog=examples_of(name))(command)
app.add_typer(users, name="user", rich_help_panel="Look after it", epilog=examples_of("user"))
app.add_typer(peers.app, name="peers", rich_help_panel="Look after it", epilog=examples_of("peers"))
app.add_typer(checkpoints.app, name="model", rich_help_panel="Classifier", epilog=examples_of("model"))


@app.command(rich_help_panel="Look after it", epilog=examples_of("version"))
def version() -> None:
    """Print the version."""
    sys.stdout.write(f"{VERSION}\n")


def main() -> None:
    """Entry point: every error that a person can mend ends in one line and exit code 2."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except EXPECTED_ERRORS as error:
        refuse(str(error))
    except (ValidationError, SettingsError) as error:
        refuse(settings_line(error))
    except OperationalError as error:
        words = "can't be reached" if is_unreachable(error) else "didn't do what was asked"
        refuse(f"PostgreSQL {words}: {error.orig}")


if __name__ == "__main__":
    main()
