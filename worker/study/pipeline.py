"""The steps of one study as plain functions: files in, files and values out.

They run in a notebook as well as in a worker; what they know of the ledger is nothing.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmread

from dicom_node.reading.evidence import InstanceReference, build_evidence
from dicom_node.reading.nifti import convert_series
from dicom_node.reading.series_choice import NotGradableError
from dicom_node.results.extra_objects import build_after_report, build_before_report
from dicom_node.results.part10 import write_bytes
from dicom_node.results.report import Report
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind
from dicom_node.results.secondary_capture import build_attention_images, build_summary_image, score_frames
from dicom_node.results.structured_report import build_structured_report, select_key_frames, select_key_images
from model.gates import Judgement
from model.grade import Contrast, GradePrediction, Verdict
from model.space.quality import Quality
from model.space.record import Record
from model.space.stack import Stack
from model.space.volume import Volume, load_volume, save_volume
from worker.study.confirming import Checks, check_contrasts

if TYPE_CHECKING:
    from model.predict import Prediction, Predictor

PIPELINE_VERSION = "6"
"""Part of a result's identity: raise it when a change here can change a grade or a report."""

ChosenFiles = Mapping[Contrast, Sequence[Path]]
"""Files of the volume taken for each contrast."""


@dataclass(frozen=True, slots=True)
class InputInstance:
    """One instance that the network's input was made from."""

    contrast: Contrast
    sop_instance_uid: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Preparation:
    """How well a study was brought to BraTS space, and what its pixels say of the series taken."""

    quality: Quality
    checks: Checks


@dataclass(frozen=True, slots=True)
class Graded:
    """A prediction as the grade step leaves it for the report step, and what the gates say of it."""

    prediction: GradePrediction
    judgement: Judgement
    graded_at: datetime


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """One DICOM object to send, serialised once."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Digest of the file's bytes."""
        return hashlib.sha256(self.content).hexdigest()


def result_identity(
    study_instance_uid: str,
    inputs: Sequence[InputInstance],
    answer_sha256: str,
    maximum_images: int,
    kinds: Collection[ResultKind] = DEFAULT_KINDS,
) -> str:
    """SHA-256 of what the network saw and what shaped its report: the same input has the same identity.

    `answer_sha256` is the card's digest of weights, calibration and gates.
    """
    seen = sorted(f"{item.contrast}\0{item.sop_instance_uid}\0{item.sha256}" for item in inputs)
    extra = sorted(set(kinds) - set(DEFAULT_KINDS))
    parts = [study_instance_uid, *seen, answer_sha256, PIPELINE_VERSION, str(maximum_images), *extra]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def prepare(
    chosen: ChosenFiles, plain_t1: Sequence[Path], folder: Path, *, keep_intensities: bool = False
) -> Preparation:
    """Convert the chosen series to `folder`/<contrast>.nii and bring them to BraTS space.

    Leaves `folder`/stack.npz and `folder`/preprocessing.json. With a `plain_t1` the pixels of T1ce are looked
    at too. Raises NotGradableError (conversion) or PreprocessingError, both with a reason for a technologist.
    Whether quality and pixels are good enough is for the caller to decide.
    """
    from model.space.preprocess import prepare_study  # noqa: PLC0415 - torch and ITK only where they are used

    volumes = {
        contrast: convert_series(files, folder / f"{contrast}.nii") for contrast, files in chosen.items()
    }
    plain = _converted(plain_t1, folder / "t1.nii")
    prepared = prepare_study(volumes, plain, keep_intensities=keep_intensities)
    prepared.save(folder)
    return Preparation(prepared.record.quality, check_contrasts(prepared.placed))


def _converted(files: Sequence[Path], output: Path) -> Volume | None:
    """Convert a series that helps and isn't needed: None where there is none, or it is no volume."""
    try:
        return convert_series(files, output) if files else None
    except NotGradableError:
        return None


def grade(prepared: Path, predictor: "Predictor", folder: Path) -> GradePrediction:
    """Grade `prepared`/stack.npz; leaves `folder`/prediction.json and `folder`/attention.nii."""
    prediction = predictor.predict(load_stack(prepared))
    save_prediction(prediction, folder)
    return prediction.grade_prediction


def load_stack(prepared: Path) -> Stack:
    """Load what `prepare` left for the network."""
    return Stack.load(prepared / "stack.npz")


def save_prediction(prediction: "Prediction", folder: Path) -> None:
    """Write `folder`/prediction.json and `folder`/attention.nii, graded now."""
    save_volume(prediction.attention, folder / "attention.nii")
    text = {
        "prediction": asdict(prediction.grade_prediction),
        "judgement": asdict(prediction.judgement),
        "graded_at": datetime.now(UTC).astimezone().isoformat(),
    }
    (folder / "prediction.json").write_text(json.dumps(text))


def load_graded(prepared: Path, folder: Path) -> tuple[Graded, dict[Contrast, Volume]]:
    """Read what `grade` left in `folder`, the attention brought back to the space of each series."""
    graded = load_prediction(folder)
    attention = load_volume(folder / "attention.nii")
    record = Record.load(prepared)
    return graded, {contrast: record.to_native(attention, contrast) for contrast in Contrast}


def load_prediction(folder: Path) -> Graded:
    """Read what `grade` left in `folder`, without the attention."""
    content = json.loads((folder / "prediction.json").read_text())
    fields = content["prediction"]
    prediction = GradePrediction(
        probability=fields["probability"],
        threshold=fields["threshold"],
        slice_probabilities=tuple(fields["slice_probabilities"]),
        slice_weights=tuple(fields["slice_weights"]),
    )
    judged = content["judgement"]
    judgement = Judgement(
        verdict=Verdict(judged["verdict"]),
        sentence=judged["sentence"],
        attention_ml=judged["attention_ml"],
        appearance_distance=judged["appearance_distance"],
    )
    return Graded(prediction, judgement, datetime.fromisoformat(content["graded_at"]))


def build_objects(
    report: Report,
    series: ChosenFiles,
    attention: Mapping[Contrast, Volume],
    maximum_images: int,
    kinds: Collection[ResultKind] = DEFAULT_KINDS,
) -> list[BuiltObject]:
    """Build the summary, attention images, then the report, in the order of sending.

    Beside images and report, which are always built, those of `kinds`. The same input gives the same bytes.
    `attention` lies in each series' own space. Raises EvidenceError, FrameGeometryError, FrameDecodeError.
    """
    datasets = {contrast: [dcmread(path) for path in files] for contrast, files in series.items()}
    reference = datasets[Contrast.T1CE]
    evidence = build_evidence(reference[0], chain.from_iterable(datasets.values()))
    spot = attention[Contrast.T1CE]
    scores = score_frames(reference, spot)
    summary = build_summary_image(datasets, attention, report, evidence, scores)
    images = build_attention_images(
        reference, spot, report, evidence, maximum_images=maximum_images, scores=scores
    )
    key_images = select_key_images(images)
    key_frames = select_key_frames(key_images, [datasets[contrast] for contrast in Contrast])
    first = InstanceReference.of(summary)
    document = build_structured_report(report, evidence, key_frames, images, first)
    selected = [first, *(image.reference for image in key_images), *key_frames]
    built = [
        summary,
        *(image.dataset for image in images),
        *build_before_report(kinds, reference, spot, summary, report, evidence),
        document,
        *build_after_report(kinds, selected, report, evidence),
    ]
    return [serialise(dataset) for dataset in built]


def serialise(dataset: Dataset) -> BuiltObject:
    """Serialise one object for good."""
    return BuiltObject(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        series_instance_uid=dataset.SeriesInstanceUID,
        content=write_bytes(dataset),
    )
