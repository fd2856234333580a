"""`gliograde simulate`: patients who don't exist, as BraTS folders or as DICOM studies."""

from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from worker.demonstration.demo_cases import DemoCase, scan, scanner_pool


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder the patients' folders are written to.")],
    patients: Annotated[int, typer.Option(min=1, help="How many; every tenth has no tumour.")] = 10,
    seed: Annotated[int, typer.Option(min=1, max=600, help="The same seed gives the same patients.")] = 1,
    skip: Annotated[int, typer.Option(min=0, help="Patients passed over before the first.")] = 0,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="DICOM studies with skull, to send, instead of BraTS folders.")
    ] = False,
    test_set: Annotated[
        bool,
        typer.Option(
            "--test-set", help="Patients of the fixed test set instead, on an anatomy kept for tests."
        ),
    ] = False,
) -> None:
    """Simulate patients with high-grade, low-grade and without glioma: folders HGG, LGG and NONE.

    BraTS folders hold FLAIR, T1, T1ce, T2 and the tumour's labels; `gliograde train` and `gliograde evaluate`
    read them. They are good for trying things out and say nothing about grading real patients.
    """
    from model.simulation.samples import grade_of  # noqa: PLC0415 - the command line starts without torch
    from model.simulation.simulated_cohort import (  # noqa: PLC0415
        OWN_SEEDS,
        TEST_HEAD,
        TEST_SEEDS,
        some_of,
        training_seeds,
        write_patient,
    )
    from model.simulation.template import Head  # noqa: PLC0415

    if test_set and dicom:
        raise typer.BadParameter("the test set is written as BraTS folders only", param_hint="--dicom")
    try:
        seeds = some_of(TEST_SEEDS if test_set else training_seeds(seed, OWN_SEEDS), patients, skip)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--patients") from error
    head = TEST_HEAD if test_set else Head.MNI152
    written: list[Future[object]] = []
    with scanner_pool() as pool:
        for each in seeds:
            if dicom:
                grade = grade_of(each)
                folder = out / (grade.value if grade else "NONE") / f"SIM{each}"
                case = DemoCase("simulated", grade, each, form=None)
                written.append(pool.submit(scan, case, folder))
            else:
                written.append(pool.submit(write_patient, each, head, out))
        for future in track(
            as_completed(written), "patients", total=len(written), console=Console(stderr=True)
        ):
            future.result()
    typer.echo(f"{patients} simulated patients in {out}")
