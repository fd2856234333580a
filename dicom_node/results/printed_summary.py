"""The summary page as an Encapsulated PDF: the picture, and its words as text (PS3.3 A.45.1).

Only numbers and our own wording stand on the page; the patient is named by the object's header alone.
"""

from io import BytesIO
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import KeepInFrame, Paragraph

from dicom_node.reading.evidence import Evidence, InstanceReference
from dicom_node.results.document import finish
from dicom_node.results.report import Report
from dicom_node.uids import derive_uid

SERIES_NUMBER = 9906
_TITLE = "AI glioma grade, summary"
_MARGIN = 15 * mm
_PICTURE_SHARE = 0.68
_WORDS = ParagraphStyle("words", fontName="Helvetica", fontSize=9, leading=12, spaceAfter=3)
_HEADLINE = ParagraphStyle("headline", parent=_WORDS, fontName="Helvetica-Bold", fontSize=12, leading=16)


def build_printed_summary(summary: Dataset, report: Report, evidence: Evidence) -> Dataset:
    """Build the Encapsulated PDF of `summary`, the Secondary Capture at the front."""
    device = report.device
    dataset = Dataset()
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = derive_uid(report.result_id, "printed summary", EncapsulatedPDFStorage)
    dataset.Modality = "DOC"
    dataset.SeriesInstanceUID = derive_uid(
        report.result_id, "printed summary series", evidence.study_instance_uid
    )
    dataset.SeriesNumber, dataset.InstanceNumber = SERIES_NUMBER, 1
    dataset.SeriesDescription = report.series_description(_TITLE)
    dataset.ConversionType = "WSD"
    dataset.Manufacturer = dataset.SecondaryCaptureDeviceManufacturer = device.manufacturer
    dataset.ManufacturerModelName = device.model_name
    dataset.SecondaryCaptureDeviceManufacturerModelName = device.model_name
    dataset.DeviceSerialNumber = device.serial_number
    dataset.SoftwareVersions = dataset.SecondaryCaptureDeviceSoftwareVersions = device.software_version
    # The attribute asks for *identifying* annotation (PS3.3 C.24.2), and none is printed.
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.AcquisitionDateTime = ""
    dataset.DocumentTitle = report.series_description(_TITLE)
    # A code would have to be one of a person's report; empty is allowed (type 2).
    dataset.ConceptNameCodeSequence = []
    dataset.SourceInstanceSequence = [InstanceReference.of(summary).build_item()]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content = draw_pdf(summary, report)
    dataset.EncapsulatedDocumentLength = len(content)
    dataset.EncapsulatedDocument = content + b"\x00" * (len(content) % 2)
    return finish(dataset, report, evidence)


def draw_pdf(summary: Dataset, report: Report) -> bytes:
    """Draw the page, A4 upright; the same summary and report give the same bytes."""
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=True)
    canvas.setTitle(_TITLE)
    canvas.setAuthor(report.device.manufacturer)
    width, height = A4[0] - 2 * _MARGIN, A4[1] - 2 * _MARGIN
    picture = Image.fromarray(
        np.frombuffer(summary.PixelData, np.uint8)[: summary.Rows * summary.Columns * 3].reshape(
            summary.Rows, summary.Columns, 3
        )
    )
    scale = min(width / picture.width, _PICTURE_SHARE * height / picture.height)
    bottom = A4[1] - _MARGIN - scale * picture.height
    left = (A4[0] - scale * picture.width) / 2
    canvas.drawImage(ImageReader(picture), left, bottom, scale * picture.width, scale * picture.height)
    words = KeepInFrame(width, bottom - _MARGIN - 4 * mm, [*_paragraphs(report)], mode="shrink")
    _, used = words.wrapOn(canvas, width, bottom - _MARGIN)
    words.drawOn(canvas, _MARGIN, bottom - 4 * mm - used)
    canvas.save()
    return buffer.getvalue()


def _paragraphs(report: Report) -> list[Paragraph]:
    headlines = {*report.research_comments, report.headline}
    return [
        *(Paragraph(escape(text), _HEADLINE if text in headlines else _WORDS) for text in report.comments),
        Paragraph(escape(f"Algorithm: {report.algorithm.name} {report.algorithm.version_text}"), _WORDS),
    ]
