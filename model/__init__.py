"""What a grade is and how it is computed. Knows no DICOM, no queue, no database."""
