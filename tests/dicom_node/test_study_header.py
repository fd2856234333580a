from io import BytesIO

import pytest
from pydicom import dcmread

from dicom_node.reading.study_header import TYPE_2, copy_study_header
from tests.dicom_node.result_samples import item, mr_series, stored

NAMES = {
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 144": "Иванов^Пётр",
    "ISO_IR 192": "Wang^XiaoDong=王^小东",
    "GB18030": "Wang^XiaoDong=王^小东",
    ("", "ISO 2022 IR 87"): "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ("", "ISO 2022 IR 149"): "Hong^Gildong=洪^吉洞=홍^길동",
}


def _written(header):
    """The header as a reader of an object with it sees it."""
    buffer = BytesIO()
    header.save_as(buffer, implicit_vr=False, little_endian=True)
    return dcmread(BytesIO(buffer.getvalue()), force=True)


@pytest.mark.parametrize(("character_set", "name"), NAMES.items())
def test_names_in_every_character_set_come_out_in_utf_8(character_set, name):
    source = mr_series()[0]
    source.SpecificCharacterSet = list(character_set) if isinstance(character_set, tuple) else character_set
    source.PatientName = name
    source.OtherPatientIDsSequence = [item(PatientID="2", PatientComments=name.replace("=", " "))]
    source.OtherPatientIDsSequence[0].SpecificCharacterSet = source.SpecificCharacterSet
    source = stored(source)
    header = _written(copy_study_header(source))
    assert header.SpecificCharacterSet == "ISO_IR 192"
    assert header.PatientName == name
    (other,) = header.OtherPatientIDsSequence
    assert other.PatientComments == name.replace("=", " ")
    assert "SpecificCharacterSet" not in other


def test_absent_type_2_is_empty_on_the_copy_only():
    source = mr_series()[0]
    for keyword in TYPE_2:
        del source[keyword]
    header = copy_study_header(source)
    assert all(keyword in header and not header[keyword].value for keyword in TYPE_2)
    assert not any(keyword in source for keyword in TYPE_2)


def test_patient_and_study_come_whole_and_nothing_else_comes():
    source = mr_series()[0]
    source.PatientAge, source.IssuerOfPatientID, source.StudyDescription = "065Y", "Site", "MR head"
    source.ProcedureCodeSequence = [item(CodeValue="X", CodingSchemeDesignator="99S", CodeMeaning="MR")]
    source.TimezoneOffsetFromUTC = "+0200"
    source.Manufacturer, source.SeriesDescription, source.StationName = "Scanner", "t1", "S"
    source.ProcedureCodeSequence[0].private_block(0x0011, "scanner", create=True).add_new(1, "LO", "secret")
    source.private_block(0x0011, "scanner", create=True).add_new(1, "LO", "secret")
    header = copy_study_header(source)
    assert header.PatientAge == "065Y"
    assert header.IssuerOfPatientID == "Site"
    assert header.ProcedureCodeSequence[0].CodeValue == "X"
    assert header.TimezoneOffsetFromUTC == "+0200"
    assert not [keyword for keyword in ("Manufacturer", "SeriesDescription", "Rows") if keyword in header]
    assert "secret" not in str(header)
    assert "secret" in str(source)


def test_attributes_a_scanner_wrote_wrongly_are_passed_on_unchanged():
    source = stored(mr_series(PatientAge="065Y", PatientWeight="70")[0])
    raw = BytesIO()
    source.save_as(raw)
    spoilt = raw.getvalue().replace(b"065Y", b"65 Y").replace(b"70 ", b"7kg", 1)
    header = copy_study_header(dcmread(BytesIO(spoilt)))
    assert _written(header).get_item("PatientAge").value == b"65 Y"
