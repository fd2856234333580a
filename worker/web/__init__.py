"""The web page: worklist, studies, attention, figures, decisions. Only the command line imports it."""
