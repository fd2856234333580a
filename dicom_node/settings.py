"""Settings of the receiving side, read once at a composition root and handed down frozen.

Sources, first wins: environment variables `GLIOGRADE_…`, then files named by `GLIOGRADE_…_FILE` (for
secrets), then the TOML file named by `GLIOGRADE_SETTINGS`, which may name no setting that there isn't.
"""

import os
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from dicom_node.logs import LogFormat
from dicom_node.named_files import NamedFilesSource
from dicom_node.settings_file import read_settings_file
from dicom_node.tls import TlsFiles
from dicom_node.worker_settings import WORKER_SETTINGS


def _seconds(value: object) -> object:
    """An environment variable is text, and pydantic takes seconds as a number only."""
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return float(value)
    return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]
"""Seconds, or ISO 8601."""


class AllowedPeer(BaseModel):
    """One row of the allow-list: who may send to this node."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ae_title: str = Field(min_length=1, max_length=16)
    address: str = Field(description="IP address the peer connects from, or a network (10.1.0.0/16)")
    certificate_sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Fingerprint of the one certificate that the peer may show; needs TLS",
    )

    @field_validator("address")
    @classmethod
    def _an_address(cls, value: str) -> str:
        try:
            ip_network(value, strict=False)
        except ValueError as error:
            raise ValueError("neither an IP address nor a network") from error
        return value

    @field_validator("certificate_sha256", mode="before")
    @classmethod
    def _as_openssl_prints_it(cls, value: object) -> object:
        return value.replace(":", "").lower() if isinstance(value, str) else value

    @property
    def network(self) -> IPv4Network | IPv6Network:
        """The addresses of this row, one or more."""
        return ip_network(self.address, strict=False)


class NodeSettings(BaseSettings):
    """What the Storage SCP needs; `worker.settings.Settings` adds the rest."""

    model_config = SettingsConfigDict(
        env_prefix="GLIOGRADE_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    data_folder: Path = Field(
        default=Path("gliograde-data"), description="Folder of the spool, the workspaces and the results"
    )
    log_format: LogFormat = Field(
        default="text", description="How every process logs: lines of text, or of JSON"
    )
    ae_title: str = Field(default="GLIOGRADE", min_length=1, max_length=16, description="Our own AE title")
    bind_address: str = Field(default="127.0.0.1", description="Address the Storage SCP listens on")
    dicom_port: int = Field(default=11112, ge=1, le=65535, description="Port the Storage SCP listens on")
    peers: tuple[AllowedPeer, ...] = Field(
        default=(), description="Who may send: AE title and address; empty refuses to start"
    )
    maximum_associations: int = Field(default=25, ge=1, description="Associations served at a time")
    maximum_associations_per_peer: int = Field(
        default=10, ge=1, description="Of these, for one AE title at one address"
    )
    tls_certificate: Path | None = Field(
        default=None, description="Our certificate with its chain (PEM); with key and authority turns TLS on"
    )
    tls_key: Path | None = Field(default=None, description="Private key of our certificate (PEM)")
    tls_authority: Path | None = Field(
        default=None, description="Authority that has signed the peers' certificates (PEM)"
    )
    minimum_free_bytes: int = Field(
        default=1_000_000_000, ge=0, description="Free disk space under which objects are refused (0xA700)"
    )
    receiving_processes: int = Field(
        default_factory=lambda: min(4, os.cpu_count() or 1),
        ge=1,
        description="Processes that receive on the one port; the number of processors, at most 4",
    )
    maximum_object_bytes: int = Field(
        default=2 * 1024**3, ge=1, description="Larger objects are refused (0xC000)"
    )
    network_timeout: Duration = Field(
        default=timedelta(minutes=5), description="How long an idle association is kept"
    )
    request_timeout: Duration = Field(
        default=timedelta(seconds=10),
        description="From connecting to a whole association request, TLS handshake included",
    )
    pdu_timeout: Duration = Field(
        default=timedelta(seconds=30), description="From the first to the last byte of one PDU"
    )

    drain_timeout: Duration = Field(
        default=timedelta(seconds=20), description="How long open associations may go on at a stop"
    )

    @field_validator("data_folder")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _tls_whole_or_not_at_all(self) -> Self:
        files = (self.tls_certificate, self.tls_key, self.tls_authority)
        if any(files) and not all(files):
            raise ValueError("TLS needs all three of tls_certificate, tls_key and tls_authority")
        if not any(files) and any(peer.certificate_sha256 for peer in self.peers):
            raise ValueError("a peer's certificate_sha256 needs TLS: set tls_certificate")
        return self

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS; None where it is off."""
        if self.tls_certificate is None or self.tls_key is None or self.tls_authority is None:
            return None
        return TlsFiles(certificate=self.tls_certificate, key=self.tls_key, authority=self.tls_authority)

    @property
    def spool_folder(self) -> Path:
        """Where received objects are kept."""
        return self.data_folder / "spool"

    @property
    def audit_folder(self) -> Path:
        """Segments of the audit trail, written by every process."""
        return self.data_folder / "audit"

    @property
    def commitments_folder(self) -> Path:
        """Reports of storage commitment that the worker has yet to read."""
        return self.data_folder / "commitments"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment, then files named by `…_FILE` variables, then the TOML file; no .env file."""
        del dotenv_settings, file_secret_settings
        sources: tuple[PydanticBaseSettingsSource, ...] = (
            init_settings,
            env_settings,
            NamedFilesSource(settings_cls),
        )
        if path := os.environ.get("GLIOGRADE_SETTINGS"):
            known = settings_cls.model_fields.keys() | WORKER_SETTINGS
            sources = (*sources, InitSettingsSource(settings_cls, read_settings_file(Path(path), known)))
        return sources


def unknown_variables(settings: NodeSettings) -> list[str]:
    """Names of environment variables that look like a setting and are none.

    Not refused: others name variables too, as Kubernetes does after each service beside ours.
    """
    names = {name.upper() for name in os.environ if name.upper().startswith("GLIOGRADE_")}
    services = tuple(
        f"{name.removesuffix('_SERVICE_HOST')}_" for name in names if name.endswith("_SERVICE_HOST")
    )
    fields = [f"GLIOGRADE_{field}".upper() for field in type(settings).model_fields]
    known = {"GLIOGRADE_SETTINGS", "GLIOGRADE_TOML", *fields, *(f"{field}_FILE" for field in fields)}
    nested = tuple(f"{field}__" for field in fields)
    return sorted(name for name in names - known if not name.startswith((*services, *nested)))


def settings_line(error: ValidationError | SettingsError) -> str:
    """Say in one line which setting is wrong and why, without its value (it may be a secret)."""
    if isinstance(error, SettingsError):
        return f"settings: {error}"
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"settings: {where}: {first['msg']}" if where else f"settings: {first['msg']}"
