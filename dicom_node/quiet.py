"""Keeping the DICOM libraries quiet: their warnings quote values of data sets, and so patients."""

import logging
import warnings

LIBRARIES = ("pydicom", "pynetdicom", "dicom2nifti", "highdicom")


def silence_libraries() -> None:
    """Leave only our own words in the logs of this process; each composition root calls it once."""
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=library)
