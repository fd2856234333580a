"""The shipped checkpoint for tests of what stands around it."""

import json
import shutil

from model.card import CARD_NAME, default_checkpoint_folder


def copy_without_gates(folder):
    """Copy the shipped checkpoint to `folder`, without calibration and the gates that some heads fail."""
    shutil.copytree(default_checkpoint_folder(), folder)
    card = json.loads((folder / CARD_NAME).read_text())
    card |= {"temperature": 1.0, "bias": 0.0, "calibration": None, "gates": None}
    (folder / CARD_NAME).write_text(json.dumps(card))
    return folder
