"""Those that results are sent to and that are asked, by DIMSE and DICOMweb."""
