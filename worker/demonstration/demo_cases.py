"""The demo's simulated scanner: which studies it sends, and how they are made."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from dicom_node.reading.mr_study import (
    PROTOCOL,
    PatientIdentity,
    SeriesHeader,
    StudyHeader,
    build_mr_series,
    save_study,
)
from model.grade import Contrast, Grade
from worker.states import JobState

ACQUIRED = ("flair", "t1", "t2", "t1ce")
"""Series of a study in the order of their numbers."""

MISLEADING: Mapping[str, SeriesHeader] = {
    # dark fluid, though the name says T2; a plain T1 and one after contrast agent, both in German; and a T2
    # that is named after nothing but its plane
    "flair": replace(PROTOCOL["flair"], description="t2_tra_dunkel"),
    "t1": replace(PROTOCOL["t1"], description="t1_se_tra nativ", contrast_agent="Gadobutrol"),
    "t2": replace(PROTOCOL["t2"], description="tra T2 5mm"),
    "t1ce": replace(PROTOCOL["t1ce"], description="t1_se_tra KM", contrast_agent=None),
}


@dataclass(frozen=True, slots=True)
class DemoCase:
    """One simulated study: what it is, what is sent when, and how its job must end."""

    title: str
    truth: Grade | None
    seed: int
    expected: JobState = JobState.DONE
    headers: Mapping[str, SeriesHeader] = field(default_factory=lambda: dict(PROTOCOL))
    first: Sequence[str] = ACQUIRED
    late: Sequence[str] = ()
    form: str | None = "single"
    """One of `model.simulation.lesion.Form`; drawn where None."""
    enhancement: str | None = None
    """One of `model.simulation.lesion.Enhancement`; drawn where None."""

    @property
    def study_header(self) -> StudyHeader:
        """Identity of the study; the patient doesn't exist."""
        return StudyHeader(
            patient=PatientIdentity(patient_id=f"SIM{self.seed}", patient_name=f"Simulated^{self.seed}"),
            seed=f"demo {self.seed}",
            acquired_at=datetime(2026, 1, 1, 9, tzinfo=UTC),
            accession_number=f"DEMO{self.seed}",
        )


CASES: Sequence[DemoCase] = (
    DemoCase("high-grade glioma", Grade.HGG, 900_001, enhancement="ring"),
    DemoCase("low-grade glioma", Grade.LGG, 900_002, enhancement="none"),
    DemoCase("names that mislead", Grade.HGG, 900_003, headers=MISLEADING, enhancement="ring"),
    DemoCase("no T1 post-contrast", Grade.HGG, 900_004, JobState.NOT_GRADABLE, first=("flair", "t1", "t2")),
    DemoCase(
        "last series comes late",
        Grade.LGG,
        900_005,
        first=("flair", "t1", "t2"),
        late=("t1ce",),
        enhancement="none",
    ),
)


@dataclass(frozen=True, slots=True)
class ScannedStudy:
    """DICOM files of one case, by series."""

    case: DemoCase
    files: Mapping[str, Sequence[Path]]

    def sent_first(self) -> list[Path]:
        """Files that go out at once."""
        return [path for name in self.case.first for path in self.files[name]]

    def sent_late(self) -> list[Path]:
        """Files that go out once the node has answered without them."""
        return [path for name in self.case.late for path in self.files[name]]


def scan(case: DemoCase, folder: Path) -> ScannedStudy:
    """Simulate the patient and write the study's DICOM files below `folder`."""
    import torch  # noqa: PLC0415 - only the simulating child processes pay for torch

    from model.simulation.lesion import Enhancement, Form  # noqa: PLC0415 - as above
    from model.simulation.simulate import simulate_case  # noqa: PLC0415

    torch.set_num_threads(1)
    form = None if case.form is None else Form(case.form)
    enhancement = None if case.enhancement is None else Enhancement(case.enhancement)
    simulated = simulate_case(case.seed, case.truth, form=form, enhancement=enhancement)
    volumes = {
        "flair": simulated.volumes[Contrast.FLAIR],
        "t1": simulated.native_t1,
        "t2": simulated.volumes[Contrast.T2],
        "t1ce": simulated.volumes[Contrast.T1CE],
    }
    files = {
        name: save_study(
            build_mr_series(volumes[name], case.headers[name], case.study_header, number), folder / name
        )
        for number, name in enumerate(ACQUIRED, start=1)
        if name in (*case.first, *case.late)
    }
    return ScannedStudy(case, files)


def scan_all(
    cases: Sequence[DemoCase], folder: Path, pool: ProcessPoolExecutor
) -> list[Future[ScannedStudy]]:
    """Start scanning all cases in the pool."""
    return [pool.submit(scan, case, folder / str(case.seed)) for case in cases]


@contextmanager
def scanner_pool() -> Iterator[ProcessPoolExecutor]:
    """Two processes that simulate; spawned, because torch and fork don't mix. Leaving drops what waits."""
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
