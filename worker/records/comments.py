r"""What the tables and their less plain columns mean, kept in PostgreSQL where `\d+` shows it.

A migration that changes these words repeats them: `alembic check` tells where it doesn't.
"""

from sqlalchemy import MetaData

COMMENTS = {
    "study": "One study as its sender identifies it. Holds patient data",
    "study.study_date": "StudyDate (0008,0020), YYYYMMDD or empty",
    "study.state": "open: still arriving; stable: frozen as a version; held: identity in doubt",
    "study.last_instance_at": "When its newest instance was indexed, UTC",
    "series": "One series of a study",
    "instance": "One received object; the spool holds its bytes under sha256",
    "instance.calling_ae_title": "AE title that sent it",
    "instance.purged_at": "When a person purged its file, UTC; the row stays",
    "study_version": "A frozen manifest: what a study held when it was quiet",
    "study_version.completeness": "verified: the source counted the same instances, twice",
    "manifest_entry": "One instance of a frozen manifest",
    "result": "What the network said of one input; the same input never makes a second row",
    "result.verdict": "graded; or why the network gave no grade; NULL: the network was not asked",
    "result.probability": "Probability of high grade, 0 to 1; NULL where it means nothing",
    "result.is_calibrated": "The probability was calibrated on patients that the card names",
    "result.attention_ml": "Volume of the brain with attention above 0.5: the no-tumour gate looks at it",
    "result.appearance_distance": "How far the images lie from usual ones, near 1 for a usual study",
    "result.threshold": "Probability from which the grade is HGG",
    "result.checkpoint_sha256": "Digest of the weights that said so",
    "result.trained_on_simulated": "The weights have seen simulated tumours only: research use",
    "result.manufacturer": "Who made the scanner of the T1 post-contrast series; empty where it did not say",
    "result.predecessor_id": "Result of the same study that this one replaces",
    "result.is_replaced": "A newer result names it as its predecessor",
    "job": "The work on one study version",
    "job.state": "Step it waits for or is in, or how it ended: done, not_gradable, held, superseded",
    "job.reason_code": "Why it is held, not gradable or waiting; stable words for programs",
    "job.fence": "Number of its newest claim; writes under an older one are refused",
    "second_reading": "What another checkpoint made of a job's input; never sent, never a study's result",
    "second_reading.origin": "replay: a person asked; shadow: the setting shadow_model names a candidate",
    "second_reading.verdict": "graded; or why the candidate's gates gave no grade",
    "step_run": "One claim of one step: who, when, and how it ended",
    "series_role": "The series a job took for a contrast, and why",
    "series_candidate": "What a job made of one series, chosen or not",
    "role_decision": "A person's word on which series shows a contrast; the newest counts",
    "result_object": "One serialised DICOM object of a result",
    "result_object.purged_at": "When a person purged its file, UTC; the row stays",
    "destination_state": "One destination, and since when it has been failing",
    "delivery": "One object on its way to one destination",
    "delivery.state": "failed: refused for good; dismissed: and a person said that it need not be delivered",
    "delivery.sent_at": "When the destination took it, UTC",
    "delivery.failed_at": "When the destination refused it for good, UTC",
    "audit_record": "One event of the audit trail (PS3.15 A.5). Holds patient data",
    "heartbeat": "One worker, as its consumer last said that it lives",
    "feedback": "What is known of a study's grade from elsewhere, such as pathology; the newest counts",
    "feedback.source": "Where it is known from: pathology, follow-up, …",
    "web_user": "One account of the web page",
    "web_session": "One login of a browser, or one token of a program; of its secret only a digest",
    "notification": "One event that a person is told by webhook or mail, once; names no patient",
    "login_attempt": "One login that failed or is being tried; its name as a digest",
}


def apply_comments(metadata: MetaData) -> None:
    """Hang the words on the tables and columns that they name."""
    for name, words in COMMENTS.items():
        table, _, column = name.partition(".")
        target = metadata.tables[table]
        if column:
            target.c[column].comment = words
        else:
            target.comment = words
