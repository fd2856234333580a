"""The hospital's side: receiving, series roles, conversion, reports. Knows no Celery, no SQL, no torch."""
