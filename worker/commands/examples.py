"""What each command looks like in use; `--help` shows it below the options."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("gliograde demo", "gliograde demo --study FOLDER --keep"),
    "up": ("gliograde up --web --allow PACS@192.0.2.10 --send-to PACS@192.0.2.10:104",),
    "web": ("gliograde web",),
    "status": ("gliograde status", "gliograde status --once --state held"),
    "results": (
        "gliograde results --since 2026-01-01 --grade HGG",
        "gliograde results --format parquet --out results.parquet",
    ),
    "study": ("gliograde study 12", "gliograde study 12 --json"),
    "roles": (
        "gliograde roles 12",
        "gliograde roles 12 --set t1ce=5",
        "gliograde roles 12 --set flair=3 --set 't2=4:TE 95'",
    ),
    "retry": ("gliograde retry 12", "gliograde retry 12 --to pacs"),
    "dismiss": ("gliograde dismiss 12 --reason 'that viewer is retired'",),
    "release": ("gliograde release 12 --by 'Dr. Jones'",),
    "feedback": ("gliograde feedback 12 --grade LGG --source biopsy",),
    "doctor": ("gliograde doctor", "gliograde doctor --json"),
    "migrate": ("gliograde migrate",),
    "purge": ("gliograde purge --older-than 90", "gliograde purge --older-than 90 --results --yes"),
    "metrics": ("gliograde metrics --address 0.0.0.0 --port 9464",),
    "audit": ("gliograde audit",),
    "user": ("gliograde user add anna --role operator", "gliograde user token anna --days 30"),
    "peers": ("gliograde peers test",),
    "evaluate": ("gliograde evaluate BraTS2020 --out evaluation",),
    "train": ("gliograde train BraTS2020 --recipe improved --out checkpoint --fold 1/5",),
    "cross-validate": ("gliograde cross-validate BraTS2020 --recipe reproduce --out folds --by 5",),
    "replay": ("gliograde replay --model shipped --since 2026-01-01 --limit 100",),
    "simulate": ("gliograde simulate patients --patients 20", "gliograde simulate studies --dicom"),
    "model": ("gliograde model add checkpoint", "gliograde model list", "gliograde model use shipped"),
    "make-study": ("gliograde make-study nifti dicom --patient-id P1",),
    "show": ("gliograde show report.dcm",),
    "conformance": ("gliograde conformance > conformance.md",),
    "version": ("gliograde version",),
}


def examples_of(name: str) -> str:
    """Give the epilog of a command's help; typer puts each paragraph on a line of its own."""
    return "\n\n".join(("For example:", *EXAMPLES[name]))
