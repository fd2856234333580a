"""From a report to every destination that wants it."""
