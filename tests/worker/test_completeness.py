from datetime import timedelta

import pytest
from sqlalchemy import select, text

from dicom_node.peers.scu import Destination
from dicom_node.peers.stand_in_pacs import StandInPacs
from dicom_node.receiving.open_associations import OpenAssociations, studies_being_sent
from tests.worker.samples import make_header, spool_object
from tests.worker.test_delivering import pynetdicom_leaves_sockets
from worker.records.database import Study, StudyVersion
from worker.states import Completeness, StudyState
from worker.study.completeness import ask_sources
from worker.study.freezing import CompletenessRule, freeze_complete_studies
from worker.study.indexing import index_spool

NOW = timedelta(0)
LONG = timedelta(hours=1)
RULE = CompletenessRule(NOW, source_ae_titles={"SCANNER"})


@pytest.fixture
def pacs(tmp_path):
    with StandInPacs(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def node(make_node, pacs):
    source = Destination(name="source", ae_title="SCANNER", address="127.0.0.1", port=pacs.port)
    return make_node(sources=(source,), quiet_period=NOW, source_interval=NOW)


def receive(node, *headers):
    for header in headers:
        spool_object(node.spool, header)
    index_spool(node.sessions, node.spool)


def hold_at_source(pacs, *headers):
    """Let the stand-in PACS count these objects."""
    from dicom_node.peers.scu import send
    from dicom_node.results.part10 import write_bytes

    files = []
    for header in headers:
        path = pacs.folder / f"{header.SOPInstanceUID}.src"
        path.write_bytes(write_bytes(header))
        files.append(path)
    place = Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=pacs.port)
    assert [outcome.status for outcome in send(files, place)] == [0] * len(files)


def freeze(node, rule=RULE, being_sent=()):
    with node.sessions.begin() as session:
        return freeze_complete_studies(session, rule, being_sent)


def completeness(node):
    with node.sessions() as session:
        return session.scalars(select(StudyVersion.completeness)).all()


def headers(count=3):
    return [make_header(instance=f"1.2.3.1.{number}") for number in range(count)]


def test_equal_counts_twice_are_needed(node, pacs):
    objects = headers()
    receive(node, *objects)
    hold_at_source(pacs, *objects)
    assert freeze(node) == []
    ask_sources(node)
    assert freeze(node) == []
    ask_sources(node)
    assert freeze(node) == [1]
    assert completeness(node) == [Completeness.VERIFIED]


def test_a_source_that_counts_more_is_waited_for(node, pacs):
    objects = headers()
    hold_at_source(pacs, *objects)
    receive(node, *objects[:2])
    for _ in range(3):
        ask_sources(node)
    assert freeze(node) == []
    receive(node, objects[2])
    ask_sources(node)
    ask_sources(node)
    assert freeze(node) == [1]


def test_an_instance_that_arrives_undoes_an_agreement(node, pacs):
    objects = headers()
    hold_at_source(pacs, *objects[:2])
    receive(node, *objects[:2])
    ask_sources(node)
    ask_sources(node)
    receive(node, objects[2])
    assert freeze(node) == []


@pynetdicom_leaves_sockets
def test_after_the_longest_wait_it_goes_on_unverified_or_is_held(node, pacs, tmp_path):
    pacs.__exit__(None, None, None)
    receive(node, *headers())
    ask_sources(node)
    assert freeze(node) == []
    late = CompletenessRule(NOW, maximum_wait=NOW, source_ae_titles={"SCANNER"})
    assert freeze(node, late) == [1]
    assert completeness(node) == [Completeness.UNVERIFIED]
    receive(node, make_header(instance="1.2.3.1.99"))
    assert freeze(node, CompletenessRule(NOW, NOW, hold_incomplete=True, source_ae_titles={"SCANNER"})) == []
    with node.sessions() as session:
        study = session.scalars(select(Study)).one()
    assert study.state is StudyState.HELD
    assert study.hold_reason.startswith("incomplete")


def test_a_sender_that_is_no_source_needs_the_quiet_period_only(node):
    receive(node, *headers())
    assert freeze(node, CompletenessRule(NOW, source_ae_titles={"ANOTHER"})) == [1]
    assert completeness(node) == [Completeness.QUIET]


def test_a_study_is_not_frozen_while_an_association_delivers_to_it(node):
    rule = CompletenessRule(NOW)
    receive(node, *headers())
    associations = OpenAssociations(node.settings.spool_folder)
    associations.delivered("one", "1.2.3")
    assert freeze(node, rule, studies_being_sent(node.settings.spool_folder, LONG)) == []
    associations.closed("one")
    assert freeze(node, rule, studies_being_sent(node.settings.spool_folder, LONG)) == [1]


def test_a_reopened_study_waits_anew(node):
    rule = CompletenessRule(NOW, maximum_wait=LONG, source_ae_titles={"SCANNER"})
    receive(node, *headers())
    with node.sessions.begin() as session:
        session.execute(text("UPDATE study SET opened_at = now() - interval '1 day'"))
    assert freeze(node, rule) == [1]
    receive(node, make_header(instance="1.2.3.1.99"))
    assert freeze(node, rule) == []
