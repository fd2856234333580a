"""Real patients on disk in BraTS's layouts: who they are, and who may be tested on what."""
