"""Serves the application on its own socket, with TLS where the settings name a certificate."""

import logging
import socket

import uvicorn
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

from dicom_node.audit import AuditSpool
from dicom_node.logs import configure_logging
from dicom_node.receiving.spool import Spool
from worker.settings import Settings
from worker.web.app import make_app
from worker.web.guard import Web

MOST_AT_A_TIME = 64


def open_web(engine: Engine, settings: Settings) -> Web:
    """Open what the web page needs."""
    return Web(
        settings=settings,
        sessions=sessionmaker(engine),
        spool=Spool(settings.spool_folder),
        audit=AuditSpool(settings.audit_folder),
    )


def serve(engine: Engine, settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal ends it; requests that are being answered are finished first."""
    configure_logging(settings.log_format)
    # it tells of each look at the schema, and a probe looks every few seconds
    logging.getLogger("alembic").setLevel(logging.WARNING)
    configuration = uvicorn.Config(
        make_app(open_web(engine, settings)),
        log_config=None,
        # uvicorn's access log holds addresses with their queries; ours names routes
        access_log=False,
        server_header=False,
        ssl_certfile=settings.web_certificate,
        ssl_keyfile=settings.web_key,
        proxy_headers=bool(settings.web_proxies),
        forwarded_allow_ips=[str(address) for address in settings.web_proxies],
        limit_concurrency=MOST_AT_A_TIME,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(configuration).run(sockets=[listener])
