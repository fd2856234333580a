"""Settings of the service, read once at a composition root and handed down frozen."""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, IPvAnyAddress, SecretStr, model_validator

from dicom_node.peers.scu import Destination
from dicom_node.peers.sending import AnyDestination
from dicom_node.reading.series_description import ACCEPTED_CONFIDENCE
from dicom_node.reading.site_rules import SiteRule
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind
from dicom_node.settings import Duration, NodeSettings
from worker.states import NotificationEvent


class Settings(NodeSettings):
    """All that a deployment may set; the Storage SCP reads its own part as `NodeSettings`.

    Durations are given in seconds or as ISO 8601.
    """

    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL, postgresql+psycopg://…; empty starts an embedded one"
    )
    redis_url: SecretStr | None = Field(
        default=None, description="Redis protocol broker, redis://…; empty starts an embedded Valkey"
    )
    destinations: tuple[AnyDestination, ...] = Field(default=(), description="Where results are sent")
    quiet_period: Duration = Field(
        default=timedelta(seconds=60), description="A study is stable when nothing came for this long"
    )
    sources: tuple[Destination, ...] = Field(
        default=(),
        description="Peers asked by C-FIND whether a study that they sent is complete; `ae_title` is the "
        "calling AE title they send with",
    )
    source_interval: Duration = Field(
        default=timedelta(seconds=30), description="How often a source is asked about one study"
    )
    maximum_wait: Duration = Field(
        default=timedelta(minutes=90),
        description="A study is no longer waited for once it has been open for this long",
    )
    when_incomplete: Literal["proceed", "hold"] = Field(
        default="proceed",
        description="After the longest wait: go on, marked as unverified, or hold the study for a person",
    )
    series_wait: Duration = Field(
        default=timedelta(minutes=30),
        description="A study that lacks a needed series is waited for this long before it is not gradable",
    )
    series_rules: tuple[SiteRule, ...] = Field(
        default=(),
        description="The site's own word on its series, before ours; the first rule that matches counts",
    )
    accepted_confidence: float = Field(
        default=ACCEPTED_CONFIDENCE,
        ge=0.5,
        le=1,
        description="A series less certain than this is not taken: the study waits for a person",
    )
    sweep_interval: Duration = Field(
        default=timedelta(seconds=5),
        description="How often the spool is indexed and stable studies are found",
    )
    rehint_after: Duration = Field(
        default=timedelta(seconds=30), description="A job nobody claimed is offered to the queue again"
    )
    lease: Duration = Field(
        default=timedelta(minutes=2),
        description="A claim not renewed for this long may be taken by another worker",
    )
    maximum_attempts: int = Field(
        default=3, ge=1, description="Failures of one step before a person has to look"
    )
    send_first_delay: Duration = Field(
        default=timedelta(seconds=5), description="First wait after a destination took nothing; doubles"
    )
    send_longest_delay: Duration = Field(
        default=timedelta(minutes=10), description="A destination that is down is asked at least this often"
    )
    send_refused_delay: Duration = Field(
        default=timedelta(hours=1), description="Wait after a destination rejected us for good"
    )
    send_alert_after: Duration = Field(
        default=timedelta(minutes=15), description="A destination failing for this long is told, once"
    )
    commitment_retry: Duration = Field(
        default=timedelta(hours=1), description="Storage commitment that is not answered is asked for again"
    )
    audit_forward_url: str | None = Field(
        default=None,
        pattern=r"^(udp|tcp|tls)://[^/\s:]+:\d+$",
        description="Where audit messages are forwarded to (RFC 5424): udp://, tcp:// or tls://host:port",
    )
    audit_forward_ca: Path | None = Field(
        default=None, description="CA certificates that the tls:// audit receiver is checked against"
    )
    notify_url: SecretStr | None = Field(
        default=None, description="Webhook that events are told to: a POST of JSON, http:// or https://"
    )
    notify_mail_to: tuple[str, ...] = Field(default=(), description="Mail addresses that events are told to")
    notify_mail_from: str | None = Field(default=None, description="Mail address that they come from")
    notify_smtp: str | None = Field(
        default=None, pattern=r"^[^/\s]+:\d+$", description="Mail server that takes them, host:port"
    )
    notify_smtp_starttls: bool = Field(default=False, description="Talk to it in TLS (STARTTLS) only")
    notify_smtp_ca: Path | None = Field(
        default=None, description="CA certificates that it is checked against; empty: the system's"
    )
    notify_smtp_credentials_file: Path | None = Field(
        default=None, description="File with user:password for it, one line; needs notify_smtp_starttls"
    )
    notify_on: frozenset[NotificationEvent] = Field(
        default=frozenset(
            {NotificationEvent.HELD, NotificationEvent.DELIVERY_FAILED, NotificationEvent.DESTINATION_DOWN}
        ),
        description="Events told: held, not_gradable, delivery_failed, destination_down (and up again)",
    )
    notify_destination_after: Duration = Field(
        default=timedelta(minutes=30), description="A destination failing for this long is told of"
    )
    retry_delay: Duration = Field(
        default=timedelta(seconds=10), description="Wait before a failed step's second attempt; doubles"
    )
    step_timeout: Duration = Field(
        default=timedelta(minutes=30), description="A step's claim is renewed no longer than this"
    )
    inference_timeout: Duration = Field(
        default=timedelta(minutes=10), description="Grading one study longer than this is broken off"
    )
    heartbeat_interval: Duration = Field(
        default=timedelta(seconds=10), description="How often a worker's consumer says that it lives"
    )
    receiver_address: str | None = Field(
        default=None,
        pattern=r"^[^/\s]+:\d+$",
        description="Where `gliograde doctor` looks for a receiver that runs on another machine, host:port",
    )
    checkpoint_folder: Path | None = Field(
        default=None, description="Checkpoint in use; empty: what `gliograde model use` chose"
    )
    keep_days: int | None = Field(
        default=None,
        ge=1,
        description="Days for which `gliograde purge` leaves the files of a study that is over",
    )
    shadow_model: str | None = Field(
        default=None,
        description="Checkpoint that grades each new study too, for the database only: a name of "
        "`gliograde model list`",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where the network runs")
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        default="fp32",
        description="How the GPU multiplies; a CPU knows bf16 where it has instructions for it, else fp32",
    )
    grade_together: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="Waiting studies that go through the network together; empty: 8 on a GPU, 1 on a CPU",
    )
    report_not_graded: bool = Field(
        default=False,
        description="A study that can't be graded gets a short report and a page that say why",
    )
    maximum_images: int = Field(default=24, ge=1, description="Attention images sent for one study at most")
    web_address: str = Field(default="127.0.0.1", description="Address that `gliograde web` listens on")
    web_port: int = Field(default=8080, ge=1, le=65535, description="Port that `gliograde web` listens on")
    web_certificate: Path | None = Field(
        default=None, description="Certificate of the web page with its chain (PEM); with key turns TLS on"
    )
    web_key: Path | None = Field(default=None, description="Private key of that certificate (PEM)")
    web_proxies: tuple[IPvAnyAddress, ...] = Field(
        default=(),
        description="Addresses of the TLS proxies before the web page; their X-Forwarded words are believed",
    )
    web_idle_timeout: Duration = Field(
        default=timedelta(minutes=30), description="A login nobody uses for this long has ended"
    )
    web_session_timeout: Duration = Field(
        default=timedelta(hours=12), description="A login ends after this long in any case"
    )

    @model_validator(mode="after")
    def _web_tls_whole_or_not_at_all(self) -> Self:
        if (self.web_certificate is None) is not (self.web_key is None):
            raise ValueError("TLS of the web page needs both web_certificate and web_key")
        return self

    @model_validator(mode="after")
    def _notifications_can_be_sent(self) -> Self:
        url = self.notify_url.get_secret_value() if self.notify_url else "https://"
        if not url.startswith(("http://", "https://")):
            raise ValueError("notify_url is neither http:// nor https://")
        if self.notify_mail_to and (self.notify_mail_from is None or self.notify_smtp is None):
            raise ValueError("notify_mail_to needs notify_mail_from and notify_smtp")
        if self.notify_smtp_credentials_file is not None and not self.notify_smtp_starttls:
            raise ValueError("notify_smtp_credentials_file needs notify_smtp_starttls")
        return self

    @property
    def web_is_encrypted(self) -> bool:
        """Whether a browser reaches the web page by TLS, ours or a proxy's."""
        return self.web_certificate is not None or bool(self.web_proxies)

    @property
    def result_kinds(self) -> frozenset[ResultKind]:
        """What is built: images and report, and whatever else a destination asks for."""
        return frozenset(DEFAULT_KINDS).union(*(destination.objects for destination in self.destinations))

    @property
    def jobs_folder(self) -> Path:
        """Workspaces of jobs, shared by all workers."""
        return self.data_folder / "jobs"

    @property
    def results_folder(self) -> Path:
        """Serialised result objects, kept for resending."""
        return self.data_folder / "results"

    @property
    def logs_folder(self) -> Path:
        """Logs of the processes that `gliograde up` and `gliograde demo` start."""
        return self.data_folder / "logs"
