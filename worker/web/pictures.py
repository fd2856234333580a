"""A study's attention images and report, read from the very bytes that go to the PACS.

An attention image shows a slice with its attention and beside it the slice alone. Taken apart, the one can
be faded over the other: that is attention at any opacity up to the one that was sent.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.receiving.spool import Spool
from dicom_node.results.attention_page import split_page
from dicom_node.results.result_kind import ResultKind, kind_of
from worker.records.database import Instance, Result, ResultObject
from worker.study.reporting import object_path


class Layer(StrEnum):
    """A part of an attention image."""

    PAGE = "page"
    """All of it, as it was sent."""
    OVERLAY = "overlay"
    PLAIN = "plain"
    SCALE = "scale"


@dataclass(frozen=True, slots=True)
class ResultPictures:
    """The newest result of a study: positions of its summary, its slices and its report among its objects."""

    result_id: int
    summary: int | None
    slices: Sequence[int]
    report: int | None


class PictureError(Exception):
    """An object or its source isn't there, or isn't of that kind. The message says which."""


def newest_pictures(session: Session, study_id: int) -> ResultPictures | None:
    """Find the objects of a study's newest result that has any."""
    result_id = session.scalar(
        select(Result.id)
        .where(Result.study_id == study_id, ResultObject.result_id == Result.id)
        .order_by(Result.id.desc())
        .limit(1)
    )
    if result_id is None:
        return None
    rows = session.execute(
        select(ResultObject.position, ResultObject.sop_class_uid)
        .where(ResultObject.result_id == result_id)
        .order_by(ResultObject.position)
    ).all()
    images = [position for position, sop_class in rows if kind_of(sop_class) is ResultKind.IMAGES]
    reports = [position for position, sop_class in rows if kind_of(sop_class) is ResultKind.REPORT]
    return ResultPictures(
        result_id, images[0] if images else None, images[1:], reports[0] if reports else None
    )


def read_object(session: Session, results_folder: Path, result_id: int, position: int) -> Dataset:
    """Read one object of a result; raises PictureError."""
    sha256 = session.scalar(
        select(ResultObject.sha256).where(
            ResultObject.result_id == result_id, ResultObject.position == position
        )
    )
    if sha256 is None:
        raise PictureError("the result has no such object")
    try:
        return dcmread(object_path(results_folder, sha256))
    except FileNotFoundError as error:
        raise PictureError("the object's file isn't kept any more") from error


def draw_layer(session: Session, spool: Spool, image: Dataset, layer: Layer) -> bytes:
    """Render one layer of an attention image as PNG; raises PictureError where its source is gone."""
    page: npt.NDArray[np.uint8] = image.pixel_array
    if layer is Layer.PAGE:
        return _png(page)
    try:
        parts = split_page(page, _source_shape(session, spool, image))
    except ValueError as error:
        raise PictureError("the image can't be taken apart") from error
    return _png({Layer.OVERLAY: parts.overlay, Layer.PLAIN: parts.plain, Layer.SCALE: parts.scale}[layer])


def _source_shape(session: Session, spool: Spool, image: Dataset) -> tuple[int, int]:
    """Rows and columns of the frame that an attention image shows."""
    shown = next(
        (item for item in image.SourceImageSequence if item.get("SpatialLocationsPreserved") == "YES"), None
    )
    if shown is None:
        raise PictureError("the image names no source")
    sha256 = session.scalar(
        select(Instance.sha256).where(Instance.sop_instance_uid == shown.ReferencedSOPInstanceUID).limit(1)
    )
    if sha256 is None:
        raise PictureError("the image's source isn't known")
    try:
        source = dcmread(
            spool.object_path(sha256), stop_before_pixels=True, specific_tags=["Rows", "Columns"]
        )
    except FileNotFoundError as error:
        raise PictureError("the image's source isn't kept any more") from error
    return int(source.Rows), int(source.Columns)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "PNG", compress_level=1)
    return output.getvalue()
