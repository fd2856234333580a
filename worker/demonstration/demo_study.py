"""One study on its way through the demo: what is still to be sent, and what came of it."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.peers.scu import Destination, Sent, send
from worker.records.queries import StudyStanding
from worker.states import JobState, StudyState


class SendingError(Exception):
    """The node did not take what was sent. Trying again can't help unless the data change."""


@dataclass(slots=True)
class DemoStudy:
    """A study the demo sends in one or more waves; a later wave goes out once the earlier is answered."""

    title: str
    truth: str
    study_instance_uid: str
    expected: JobState = JobState.DONE
    waves: list[Sequence[Path]] = field(default_factory=list)
    is_scanned: bool = True
    files_sent: int = 0
    transfer: Future[None] | None = None
    standing: StudyStanding | None = None
    objects_at_pacs: int = 0

    @property
    def is_answered(self) -> bool:
        """Whether the node has come to an end with all that was sent so far."""
        standing = self.standing
        if standing is None or standing.instances < self.files_sent:
            return False
        if standing.study_state is StudyState.HELD:
            return True
        return standing.study_state is StudyState.STABLE and standing.ended_at is not None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is to come."""
        return self.is_scanned and not self.waves and self.transfer is None and self.is_answered

    @property
    def went_as_expected(self) -> bool:
        """Whether the job ended as it should and the PACS holds every object; a wrong grade is no fault."""
        standing = self.standing
        if standing is None or not self.is_finished:
            return False
        made, total = standing.delivered
        return standing.job_state is self.expected and made == total == self.objects_at_pacs

    def send_next(self, destination: Destination, scanner: Executor) -> None:
        """Send the next wave when its time has come; raises SendingError for one that went wrong."""
        if self.transfer is not None:
            if not self.transfer.done():
                return
            self.transfer.result()
            self.transfer = None
        if self.waves and (self.files_sent == 0 or self.is_answered):
            wave = self.waves.pop(0)
            self.files_sent += len(wave)
            self.transfer = scanner.submit(send_all, wave, destination)

    @property
    def activity(self) -> str:
        """What is going on, in a few words."""
        if not self.is_scanned:
            return "being simulated"
        if self.transfer is not None:
            return "sending"
        if self.waves and self.files_sent:
            return "more comes later"
        return "waiting" if self.standing is None else ""


def send_all(files: Sequence[Path], destination: Destination) -> None:
    """Send files in one association; raises SendingError, in words, if any is not taken."""
    refused = [outcome for outcome in send(files, destination) if outcome.outcome is not Sent.SENT]
    if not refused:
        return
    first = refused[0]
    if first.outcome is Sent.NOT_ACCEPTED:
        why = "the node takes MR images only"
    elif first.status is not None:
        why = f"the node answered 0x{first.status:04X}; see the log of the node"
    else:
        why = "the line was cut"
    raise SendingError(
        f"{len(refused)} of {len(files)} objects were refused, {first.path.name} among them: {why}"
    )
