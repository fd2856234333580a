"""From files to meaning: where slices lie, which series is which, volumes."""
