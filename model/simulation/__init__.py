"""Patients who don't exist: head, tumour, scanner."""
