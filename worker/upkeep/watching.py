"""The endpoint of `gliograde metrics`: /metrics for Prometheus, /live and /ready for probes."""

from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from sqlalchemy import Engine

from worker.records.schema import readiness
from worker.settings import Settings
from worker.upkeep.metrics import LedgerCollector

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

App = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each request in a thread of its own, so that a slow scrape holds up no probe."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002, ANN401 - its signature
        """Say nothing of requests that come every few seconds."""


def make_watch_server(engine: Engine, settings: Settings, address: str, port: int) -> WSGIServer:
    """Bind the endpoint; `serve_forever` runs it. Raises OSError where the port is taken."""
    return make_server(address, port, _make_app(engine, settings), _Server, _QuietHandler)


def _make_app(engine: Engine, settings: Settings) -> App:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(engine, settings))
    metrics: App = make_wsgi_app(registry)

    def app(environment: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        match environment.get("PATH_INFO"):
            case "/metrics":
                return metrics(environment, start_response)
            case "/live":
                status, body = "200 OK", "this process answers"
            case "/ready":
                is_ready, body = readiness(engine)
                status = "200 OK" if is_ready else "503 Service Unavailable"
            case _:
                status, body = "404 Not Found", "ask for /metrics, /live or /ready"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{body}\n".encode()]

    return app
