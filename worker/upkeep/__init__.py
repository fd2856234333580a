"""What keeps a service well: sweep, retention, audit trail, metrics, notifications."""
