"""DICOMweb: what each answer of a server means, and that the very bytes go out."""

from datetime import timedelta

import pytest
from pydicom import dcmread

from dicom_node.peers.scu import AssociationError, InstanceKey, ScuError, Sent
from dicom_node.peers.stow import WebDestination, ask_anything, find_stored, store
from dicom_node.results.part10 import write_bytes
from tests.certificates import Authority
from tests.dicom_node.result_samples import mr_series
from tests.dicom_node.web_server import (
    WebServer,
    accept,
    accept_in_a_list,
    accept_with_warning,
    answer_with,
    cut,
    refuse,
    say_nothing,
    server_context,
)


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, dataset in enumerate(mr_series()[:3]):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(write_bytes(dataset))
    return paths


def to(server, **changes):
    return WebDestination(name="web", url=server.url, **changes)


def outcomes(server, files, **changes):
    return [(item.outcome, item.status, item.http_status) for item in store(files, to(server, **changes))]


def uid_of(path):
    return str(dcmread(path).SOPInstanceUID)


def key_of(path):
    header = dcmread(path)
    return InstanceKey(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)


@pytest.mark.parametrize("answer", [accept, accept_in_a_list])
def test_the_bytes_arrive_as_they_lie_on_the_disk(files, answer):
    with WebServer(answer) as server:
        assert outcomes(server, files) == [(Sent.SENT, 0x0000, 200)] * 3
        assert server.held == {uid_of(path): path.read_bytes() for path in files}
        assert all("Authorization" not in header for header in server.headers)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (accept_with_warning, (Sent.SENT_WARNING, 0xB000, 202)),
        (refuse(409, 0xA900), (Sent.REFUSED, 0xA900, 409)),
        (refuse(202, 0xA700), (Sent.REFUSED, 0xA700, 202)),
        (refuse(200, 0x0110), (Sent.REFUSED, 0x0110, 200)),
        (refuse(409, 0x0122), (Sent.NOT_ACCEPTED, None, 409)),
        (answer_with(415), (Sent.NOT_ACCEPTED, None, 415)),
        (answer_with(400), (Sent.REFUSED, None, 400)),
        (answer_with(413), (Sent.REFUSED, None, 413)),
        (answer_with(409), (Sent.REFUSED, None, 409)),
        (answer_with(200), (Sent.SENT, 0x0000, 200)),
        (answer_with(202), (Sent.UNKNOWN, None, 202)),
        (answer_with(500), (Sent.UNKNOWN, None, 500)),
        (answer_with(502), (Sent.UNKNOWN, None, 502)),
        (answer_with(202, {"00081198": {"vr": "SQ"}}), (Sent.UNKNOWN, None, 202)),
        (answer_with(409, {"00081198": "odd", "00081199": {"Value": 7}}), (Sent.REFUSED, None, 409)),
        (answer_with(200, "odd"), (Sent.SENT, 0x0000, 200)),
    ],
)
def test_what_an_answer_says_of_its_object(files, answer, expected):
    with WebServer(answer) as server:
        assert outcomes(server, files[:1]) == [expected]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 302, 501])
def test_an_answer_that_no_waiting_changes(files, status):
    with WebServer(answer_with(status)) as server, pytest.raises(AssociationError) as raised:
        list(store(files, to(server)))
    assert not raised.value.transient
    assert str(status) in str(raised.value)


@pytest.mark.parametrize("status", [503, 429, 408])
def test_a_busy_server_is_waited_for(files, status):
    with WebServer(answer_with(status)) as server, pytest.raises(AssociationError) as raised:
        list(store(files, to(server)))
    assert raised.value.transient


def test_what_follows_a_refusal_of_service_is_not_sent(files):
    with WebServer(accept, answer_with(503), accept) as server:
        got = [item[0] for item in outcomes(server, files)]
        assert got == [Sent.SENT, Sent.NOT_SENT, Sent.NOT_SENT]
        assert list(server.held) == [uid_of(files[0])]


@pytest.mark.parametrize("answer", [cut, say_nothing])
def test_a_lost_answer_leaves_it_open_and_a_query_tells(files, answer):
    with WebServer(accept, answer) as server:
        got = outcomes(server, files, response_timeout=timedelta(seconds=0.5))
        assert [item[0] for item in got] == [Sent.SENT, Sent.UNKNOWN, Sent.NOT_SENT]
        found = find_stored(to(server), map(key_of, files))
        assert found == {uid_of(files[0]), uid_of(files[1])}
        assert server.queries == 1


def test_a_server_that_is_away_is_waited_for(files):
    with WebServer() as server:
        destination = to(server)
    with pytest.raises(AssociationError) as raised:
        list(store(files, destination))
    assert raised.value.transient


@pytest.mark.parametrize(("status", "found"), [(204, frozenset()), (404, frozenset())])
def test_a_query_that_finds_nothing(files, status, found):
    with WebServer() as server:
        server.query_status = status
        assert find_stored(to(server), map(key_of, files)) == found


@pytest.mark.parametrize(("status", "error"), [(500, ScuError), (501, ScuError), (401, AssociationError)])
def test_a_query_that_is_not_answered(files, status, error):
    with WebServer() as server:
        server.query_status = status
        with pytest.raises(error):
            find_stored(to(server), map(key_of, files))
        with pytest.raises(error):
            ask_anything(to(server))


def test_a_server_that_answers_queries_is_there():
    with WebServer() as server:
        ask_anything(to(server))


def test_credentials_come_from_a_file_anew_each_time(files, tmp_path):
    secret = tmp_path / "secret"
    with WebServer() as server:
        for text, header in (("first", "Bearer first"), ("second\n", "Bearer second")):
            secret.write_text(text)
            outcomes(server, files[:1], bearer_token_file=secret)
            assert server.headers[-1]["Authorization"] == header
        secret.write_text("user:passwörd")
        outcomes(server, files[:1], basic_credentials_file=secret)
        assert server.headers[-1]["Authorization"] == "Basic dXNlcjpwYXNzd8O2cmQ="
        with pytest.raises(AssociationError, match="credentials"):
            outcomes(server, files, bearer_token_file=tmp_path / "absent")


def test_https_with_certificates_on_both_ends(files, tmp_path):
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    theirs, ours = authority.issue("server").files, authority.issue("client").files
    with WebServer(context=server_context(theirs)) as server:
        trusting = {"authority": authority.path, "certificate": ours.certificate, "key": ours.key}
        assert outcomes(server, files, **trusting) == [(Sent.SENT, 0x0000, 200)] * 3
        with pytest.raises(AssociationError, match="TLS") as raised:
            outcomes(server, files, **trusting | {"authority": other.path})
        assert not raised.value.transient
        with pytest.raises(AssociationError, match="TLS"):
            outcomes(server, files, **trusting | {"authority": tmp_path / "absent"})
        held = dict(server.held)
        server.held.clear()
        # without our certificate nothing gets through, whichever side says so first
        try:
            got = outcomes(server, files, authority=authority.path)
        except AssociationError:
            got = []
        assert all(item[0] in (Sent.UNKNOWN, Sent.NOT_SENT) for item in got)
        assert server.held == {}
        assert len(held) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://host/"},
        {"url": "host/dicom-web"},
        {"url": "https://user:secret@host/"},
        {"url": "https://host/?a=b"},
        {"key": "k"},
        {"bearer_token_file": "a", "basic_credentials_file": "b"},
        {"url": "http://host/", "bearer_token_file": "a"},
        {"objects": ("key_objects",)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        WebDestination(**{"name": "web", "url": "https://host/dicom-web"} | wrong)
