"""`python -m tests.faults.quick_worker …`: a Celery worker whose network is a stand-in for a GPU.

On a CPU the network would be most of what a soak measures. Here a grade is a digest of the stack that it
would see, in the same files; the claim, the lease and everything before and after are the service's own.
"""

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from celery.__main__ import main

import worker.celery
from model.gates import NOT_JUDGED
from model.grade import GradePrediction
from model.space.stack import Stack
from model.space.volume import Volume, save_volume


class DigestGrader:
    """The same stack has the same grade. Studies that wait come together, as they do to a GPU."""

    device = "cuda:0"

    def grade(self, prepared: Path, folder: Path) -> None:
        stack = Stack.load(prepared / "stack.npz")
        digest = hashlib.sha256(stack.array.tobytes()).digest()
        slices = len(stack.array)
        probabilities = np.resize(np.frombuffer(digest, np.uint8), slices) / 255
        prediction = GradePrediction(
            probability=float(probabilities.mean()),
            threshold=0.5,
            slice_probabilities=tuple(probabilities.tolist()),
            slice_weights=(1 / slices,) * slices,
        )
        save_volume(Volume(stack.mask.astype(np.float32), stack.affine), folder / "attention.nii")
        text = {
            "prediction": asdict(prediction),
            "judgement": asdict(NOT_JUDGED),
            "graded_at": datetime.now(UTC).astimezone().isoformat(),
        }
        (folder / "prediction.json").write_text(json.dumps(text))


worker.celery.current_inference = DigestGrader  # type: ignore[assignment] # called without arguments

if __name__ == "__main__":
    main()
