"""From three volumes to one stack in BraTS space, and how good the way there was."""
