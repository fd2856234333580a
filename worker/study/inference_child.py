"""`python -m worker.study.inference_child CHECKPOINT DEVICE` grades what it is told to, one JSON line each.

It has no ledger and no settings. Exceptions go back as their type's name: a message might name a patient.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from model.card import CheckpointError
from worker.study.inference import Reply

if TYPE_CHECKING:
    from model.predict import Predictor


def main() -> int:
    """Serve until the parent closes its end; 1 when this child can't grade (any more)."""
    requests = sys.stdin.buffer
    # what a library prints goes to the log and not between the answers
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        checkpoint_folder, device = Path(sys.argv[1]), sys.argv[2]
        try:
            predictor = _load(checkpoint_folder, device)
        except CheckpointError as error:
            _say(answers, Reply.UNAVAILABLE, str(error))
            return 1
        except (AssertionError, RuntimeError) as error:  # how torch says that a device isn't there
            _say(answers, Reply.UNAVAILABLE, f"{device} can't be used: {type(error).__name__}")
            return 1
        _say(answers, Reply.READY, str(predictor.device))
        for line in requests:
            request = json.loads(line)
            reply, detail = _grade(predictor, Path(request["prepared"]), Path(request["folder"]))
            _say(answers, reply, detail)
            if reply is Reply.UNAVAILABLE:
                return 1
    return 0


def _load(checkpoint_folder: Path, device: str) -> "Predictor":
    from model.predict import Predictor  # noqa: PLC0415 - torch only here

    return Predictor(checkpoint_folder, None if device == "auto" else device)


def _grade(predictor: "Predictor", prepared: Path, folder: Path) -> tuple[Reply, str]:
    from torch import AcceleratorError  # noqa: PLC0415 - torch only here

    from worker.study import pipeline  # noqa: PLC0415 - after the network, which fails sooner

    try:
        pipeline.grade(prepared, predictor, folder)
    except AcceleratorError as error:
        # a CUDA context doesn't outlive an error in a kernel: this process is of no more use
        return Reply.UNAVAILABLE, type(error).__name__
    except Exception as error:  # noqa: BLE001 - the border of the process: whatever it is, the parent decides
        return Reply.FAILED, type(error).__name__
    return Reply.DONE, ""


def _say(answers: BinaryIO, reply: Reply, detail: str) -> None:
    answers.write(json.dumps({"reply": reply, "detail": detail}).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
