"""Coded concepts of what is sent back, and the private scheme's declaration.

The grade's concept name is private on purpose: the standard codes for a tumour grade mean histology, which
an image-based prediction must not look like. Values are NCI Thesaurus concepts.
"""

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.coding import Code

from model.grade import Grade, Verdict

PRIVATE_SCHEME = "99GGAI"

# PS3.16 CID 7021. OHIF throws on (126000, DCM) without coordinates; this title opens as text.
REPORT_TITLE = Code("126001", "DCM", "Oncology Measurement Report")
# The brain MR codes of LOINC are not in CID 100, which TID 1500 demands.
PROCEDURE_REPORTED = Code("25056-3", "LN", "MRI unspecified body region")
COMMENT = Code("121106", "DCM", "Comment")

QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")

FINDING_CATEGORY = Code("49755003", "SCT", "Morphologically Abnormal Structure")
FINDING = Code("C3059", "NCIt", "Glioma")
FINDING_SITE = Code("12738006", "SCT", "Brain")
ALGORITHM_FAMILY = Code("123110", "DCM", "Artificial Intelligence")

PREDICTED_GRADE = Code("GRADE", PRIVATE_SCHEME, "AI-predicted glioma grade")
HGG_PROBABILITY = Code("PHGG", PRIVATE_SCHEME, "Probability of high-grade glioma")
PERCENT = Code("%", "UCUM", "Percent")
GRADES = {
    Grade.HGG: Code("C4822", "NCIt", "High Grade Glioma"),
    Grade.LGG: Code("C132067", "NCIt", "Low Grade Glioma"),
}

VERDICTS = {
    Verdict.INDETERMINATE: Code("INDETERMINATE", PRIVATE_SCHEME, "Indeterminate"),
    Verdict.NO_TUMOUR_SEEN: Code("NOTUMOURSEEN", PRIVATE_SCHEME, "Not graded, no tumour seen"),
    Verdict.OUT_OF_DISTRIBUTION: Code(
        "UNUSUALIMAGES", PRIVATE_SCHEME, "Not graded, images out of distribution"
    ),
}
"""What stands in the place of a grade that a gate keeps back."""
ATTENTION_VOLUME = Code("ATTENTIONVOLUME", PRIVATE_SCHEME, "Volume of the brain with attention above 0.5")
MILLILITRE = Code("ml", "UCUM", "Milliliter")

NOT_GRADED = Code("NOTGRADED", PRIVATE_SCHEME, "Not graded")

SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
# PS3.16 CID 217: attention that the network itself learned, not a gradient taken afterwards
SALIENCY = Code("130404", "DCM", "Saliency")
NO_UNITS = Code("1", "UCUM", "no units")
# A place, not a tissue and not a morphological abnormality: nobody shall take it for an outline (CID 7150)
SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")
KEY_OBJECTS_TITLE = Code("113000", "DCM", "Of Interest")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")


def build_private_scheme() -> CodingSchemeIdentificationItem:
    """Declare 99GGAI for the Coding Scheme Identification Sequence (PS3.3 C.12.1.1.1)."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME,
        name="gliograde private codes",
        version="1",
        responsible_organization="gliograde",
    )
