"""DICOM files and statements: `make-study`, `show`, `conformance`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.reading.mr_study import PatientIdentity, StudyHeader, build_study_from_folder, save_study
from dicom_node.results.show import show_report
from worker.commands.conformance import conformance_statement
from worker.commands.terminal import console
from worker.running.in_force import settings_in_force


def make_study(
    nifti_folder: Annotated[Path, typer.Argument(help="NIfTI files whose names say flair, t1, t1ce or t2.")],
    output_folder: Annotated[Path, typer.Argument(help="Where the DICOM files go.")],
    patient_id: Annotated[str, typer.Option(help="Patient ID to write.")] = "NIFTI",
) -> None:
    """Turn a folder of NIfTI volumes into a DICOM MR study with honest headers."""
    patient = PatientIdentity(patient_id=patient_id, patient_name=f"{patient_id}^From NIfTI")
    paths = save_study(build_study_from_folder(nifti_folder, StudyHeader(patient=patient)), output_folder)
    console.print(f"{len(paths)} DICOM files in {output_folder}", soft_wrap=True)


def show(
    file: Annotated[Path, typer.Argument(help="A Structured Report of ours.", exists=True, dir_okay=False)],
) -> None:
    """Print what one of our Structured Reports says."""
    sys.stdout.write(show_report(file))


def conformance() -> None:
    """Print the DICOM conformance statement of the configuration in force."""
    sys.stdout.write(conformance_statement(settings_in_force()))
