import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from dicom_node.peers.scu import Destination
from dicom_node.peers.stow import WebDestination
from dicom_node.reading.site_rules import SiteRole, SiteRule
from dicom_node.results.result_kind import ResultKind
from dicom_node.settings import AllowedPeer, NodeSettings, settings_line, unknown_variables
from worker.running.environment import to_environment
from worker.settings import Settings


def test_a_child_process_reads_equal_settings(monkeypatch, tmp_path):
    settings = Settings(
        data_folder=tmp_path,
        database_url=SecretStr("postgresql+psycopg://someone:secret@host/ledger"),
        redis_url=SecretStr("redis://host"),
        peers=(AllowedPeer(ae_title="PACS", address="10.0.0.1"),),
        destinations=(
            Destination(name="pacs", ae_title="PACS", address="10.0.0.1", port=104),
            WebDestination(name="web", url="https://host/dicom-web", authority=Path("/ca.pem")),
        ),
        quiet_period=timedelta(seconds=3.5),
        checkpoint_folder=Path("/somewhere"),
        device="cpu",
        series_rules=(
            SiteRule(role=SiteRole.T1CE, conditions={"SeriesDescription": "^t1 \\d", "EchoTime": (2, 30)}),
        ),
    )
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_settings_come_from_a_toml_file_too(monkeypatch, tmp_path):
    path = tmp_path / "gliograde.toml"
    path.write_text(
        'ae_title = "GRADER"\nquiet_period = 90\n[[peers]]\nae_title = "PACS"\naddress = "10.0.0.1"\n'
    )
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    settings = Settings()
    assert settings.ae_title == "GRADER"
    assert settings.quiet_period == timedelta(seconds=90)
    assert settings.peers == (AllowedPeer(ae_title="PACS", address="10.0.0.1"),)


def test_the_rules_of_the_example_are_read(monkeypatch, tmp_path):
    example = (Path(__file__).parents[2] / "deploy" / "gliograde.toml").read_text()
    rules = re.findall(r"^# (\[\[series_rules\]\]|role = .*|conditions = .*)$", example, re.MULTILINE)
    path = tmp_path / "gliograde.toml"
    path.write_text("\n".join(rules))
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    assert [rule.role for rule in Settings().series_rules] == ["t1ce", "ignore"]
    assert Settings().series_rules[1].conditions == {"ProtocolName": "research", "EchoTime": (0, 30)}


def test_a_rule_without_sense_is_refused_at_the_start(monkeypatch, tmp_path):
    path = tmp_path / "gliograde.toml"
    path.write_text('[[series_rules]]\nrole = "t1ce"\nconditions = { SeriesName = "x" }\n')
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "SeriesName is no DICOM keyword" in settings_line(raised.value)


def test_a_wrong_setting_is_told_without_its_value(monkeypatch):
    monkeypatch.setenv("GLIOGRADE_DICOM_PORT", "ZZCANARY")
    with pytest.raises(ValidationError) as raised:
        Settings()
    line = settings_line(raised.value)
    assert "dicom_port" in line
    assert "ZZCANARY" not in line


def test_secrets_stay_out_of_the_settings_text():
    settings = Settings(database_url=SecretStr("postgresql+psycopg://someone:ZZCANARY@host/ledger"))
    assert "ZZCANARY" not in repr(settings)


def test_a_duration_is_given_in_plain_seconds(monkeypatch):
    monkeypatch.setenv("GLIOGRADE_QUIET_PERIOD", "90")
    assert Settings().quiet_period == timedelta(seconds=90)


def test_a_secret_comes_from_the_file_that_a_variable_names(monkeypatch, tmp_path):
    path = tmp_path / "secret"
    path.write_text("redis://:hidden@host\n")
    monkeypatch.setenv("GLIOGRADE_REDIS_URL_FILE", str(path))
    settings = Settings()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://:hidden@host"
    assert "hidden" not in repr(settings)
    monkeypatch.setenv("GLIOGRADE_REDIS_URL", "redis://other")
    settings = Settings()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://other"


def test_a_secret_file_that_cannot_be_read_is_named_by_its_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("GLIOGRADE_DATABASE_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError) as raised:
        Settings()
    assert "GLIOGRADE_DATABASE_URL_FILE" in settings_line(raised.value)


@pytest.mark.parametrize("url", ["http://host:1", "udp://host", "tls://host:x", "udp://a b:1"])
def test_an_audit_receiver_that_makes_no_sense_is_refused(url):
    with pytest.raises(ValidationError):
        Settings(audit_forward_url=url)


def test_what_is_built_is_what_some_destination_wants(tmp_path, monkeypatch):
    assert Settings().result_kinds == {ResultKind.IMAGES, ResultKind.REPORT}
    path = tmp_path / "gliograde.toml"
    path.write_text(
        '[[destinations]]\nname = "a"\nae_title = "A"\naddress = "h"\nport = 1\n'
        'objects = ["images", "report", "key_objects"]\n'
        '[[destinations]]\nname = "b"\nae_title = "B"\naddress = "h"\nport = 1\nobjects = ["pdf"]\n'
    )
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    wanted = {ResultKind.IMAGES, ResultKind.REPORT, ResultKind.KEY_OBJECTS, ResultKind.PDF}
    assert Settings().result_kinds == wanted


def test_key_objects_without_the_images_that_they_name_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "gliograde.toml"
    path.write_text(
        '[[destinations]]\nname = "a"\nae_title = "A"\naddress = "h"\nport = 1\nobjects = ["key_objects"]\n'
    )
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    with pytest.raises(ValidationError, match="needs images too"):
        Settings()


def test_a_destination_with_a_url_is_one_of_dicomweb(tmp_path, monkeypatch):
    path = tmp_path / "gliograde.toml"
    path.write_text(
        '[[destinations]]\nname = "web"\nurl = "https://host/dicom-web"\nresponse_timeout = 30\n'
        'authority = "/ca.pem"\nobjects = ["report"]\n'
        '[[destinations]]\nname = "pacs"\nae_title = "A"\naddress = "h"\nport = 1\n'
    )
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    web, pacs = Settings().destinations
    assert isinstance(web, WebDestination)
    assert isinstance(pacs, Destination)
    assert (web.authority, web.objects) == (Path("/ca.pem"), (ResultKind.REPORT,))
    assert web.response_timeout == timedelta(seconds=30)


def test_what_is_wrong_with_a_destination_is_told(tmp_path, monkeypatch):
    path = tmp_path / "gliograde.toml"
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    for text, told in (
        ('url = "ftp://host"', "http(s)://host"),
        ('ae_title = "A"\naddress = "h"', "port"),
        ('url = "http://host/x"\nbearer_token_file = "/t"', "use https"),
    ):
        path.write_text(f'[[destinations]]\nname = "x"\n{text}\n')
        with pytest.raises(ValidationError) as raised:
            Settings()
        assert told in settings_line(raised.value)


@pytest.mark.parametrize("kind", [Settings, NodeSettings])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keep_dayz = 30\n[[peerz]]\nae_title = 'A'\n", "no setting: keep_dayz, peerz;"),
        ("KEEP_DAYS = 30\n", "no setting: KEEP_DAYS;"),
        ("keep_days =\n", "isn't TOML: Invalid value (at line 1"),
    ],
)
def test_a_file_that_does_not_say_what_is_meant_is_refused(tmp_path, monkeypatch, kind, text, told):
    path = tmp_path / "gliograde.toml"
    path.write_text(text)
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    with pytest.raises(SettingsError) as raised:
        kind()
    assert str(path) in (line := settings_line(raised.value))
    assert told in line


@pytest.mark.parametrize("kind", [Settings, NodeSettings])
def test_a_file_that_is_named_and_missing_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"absent\.toml, which GLIOGRADE_SETTINGS names, can't be read"):
        kind()


def test_a_misspelt_key_of_a_destination_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "gliograde.toml"
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    files = 'certificate = "c", key = "k", authority = "a"'
    for text, told in (
        ('ae_title = "A"\naddress = "h"\nport = 1\nverify_by_qeury = false', "verify_by_qeury"),
        (f'ae_title = "A"\naddress = "h"\nport = 1\ntls = {{ {files}, ca = "x" }}', "tls.ca"),
        ('url = "https://h"\nbearer = "x"', "bearer"),
    ):
        path.write_text(f'[[destinations]]\nname = "x"\n{text}\n')
        with pytest.raises(ValidationError) as raised:
            Settings()
        assert told in settings_line(raised.value)


def test_the_receiver_takes_the_file_of_the_workers(tmp_path, monkeypatch):
    path = tmp_path / "gliograde.toml"
    path.write_text('ae_title = "GRADER"\nkeep_days = 30\n')
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(path))
    assert NodeSettings().ae_title == Settings().ae_title == "GRADER"


def test_variables_that_are_no_setting_are_named(monkeypatch):
    for name in (
        "GLIOGRADE_KEEP_DAYZ",
        "GLIOGRADE_KEEP_DAYS",
        "GLIOGRADE_REDIS_URL_FILE",
        "GLIOGRADE_SETTINGS",
        # what Kubernetes sets after a service named gliograde-node
        "GLIOGRADE_NODE_SERVICE_HOST",
        "GLIOGRADE_NODE_PORT_11112_TCP",
    ):
        monkeypatch.setenv(name, "1")
    assert unknown_variables(Settings.model_construct()) == ["GLIOGRADE_KEEP_DAYZ"]
