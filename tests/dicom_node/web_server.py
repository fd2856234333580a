"""A DICOMweb server that keeps what it is sent and answers as a test says."""

import json
import ssl
import threading
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

from pydicom import dcmread


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up is what the tests are about."""


class WebServer:
    """Answers stores by `answers` in turn, the last one for ever; each is a function of the handler."""

    def __init__(self, *answers, context=None):
        self.answers = list(answers) or [accept]
        self.held: dict[str, bytes] = {}
        self.headers: list[dict[str, str]] = []
        self.queries = 0
        self.query_status = 200
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_object = owner

            def do_POST(self):
                owner.headers.append(dict(self.headers))
                self.content = self.rfile.read(int(self.headers["Content-Length"]))
                answer = owner.answers[0] if len(owner.answers) == 1 else owner.answers.pop(0)
                answer(self)

            def do_GET(self):
                owner.headers.append(dict(self.headers))
                owner.queries += 1
                found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in owner.held]
                reply(self, owner.query_status, found)

            def log_message(self, *_):
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if context is not None:
            self.scheme = "https"
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self._server.server_address[1]}/dicom-web/"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def server_context(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def stored_part(handler):
    """The file in the request's one part."""
    head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
    (part,) = message_from_bytes(head + handler.content, policy=HTTP).iter_parts()
    assert part.get_content_type() == "application/dicom"
    # the parser may touch line ends, so the bytes are cut out by hand
    boundary = handler.headers.get_param("boundary", header="Content-Type").encode()
    body = handler.content.split(b"\r\n\r\n", 1)[1]
    return body.removesuffix(b"\r\n--" + boundary + b"--\r\n")


def reply(handler, status, content=None):
    data = b"" if content is None else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def keep(handler):
    data = stored_part(handler)
    header = dcmread(BytesIO(data), stop_before_pixels=True)
    handler.server_object.held[str(header.SOPInstanceUID)] = data
    return str(header.SOPInstanceUID)


def accept(handler):
    reply(handler, 200, {"00081199": {"vr": "SQ", "Value": [_reference(keep(handler))]}})


def accept_in_a_list(handler):
    reply(handler, 200, [{"00081199": {"vr": "SQ", "Value": [_reference(keep(handler))]}}])


def accept_with_warning(handler):
    item = _reference(keep(handler)) | {"00081196": {"vr": "US", "Value": [0xB000]}}
    reply(handler, 202, {"00081199": {"vr": "SQ", "Value": [item]}})


def refuse(status, reason):
    def answer(handler):
        item = {"00081197": {"vr": "US", "Value": [reason]}}
        reply(handler, status, {"00081198": {"vr": "SQ", "Value": [item]}})

    return answer


def answer_with(status, content=None):
    return lambda handler: reply(handler, status, content)


def cut(handler):
    """Take the object and hang up without a word."""
    keep(handler)
    handler.close_connection = True


def say_nothing(handler):
    """Take the object and leave the sender waiting."""
    keep(handler)
    threading.Event().wait(2)
    handler.close_connection = True


def _reference(uid):
    return {"00081155": {"vr": "UI", "Value": [uid]}}
