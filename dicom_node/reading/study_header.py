"""What an object inherits from the study it joins: the Patient and Study modules, whole.

Taken from one instance, so that all objects of a result agree with one another.
"""

from copy import deepcopy

from pydicom import Dataset

# PS3.3 C.7.1.1
_PATIENT = """
ReferencedPatientSequence PatientName PatientID IssuerOfPatientID TypeOfPatientID
IssuerOfPatientIDQualifiersSequence SourcePatientGroupIdentificationSequence
GroupOfPatientsIdentificationSequence PatientBirthDate PatientBirthTime
PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar PatientAlternativeCalendar
PatientSex QualityControlSubject StrainDescription StrainNomenclature StrainStockSequence
StrainAdditionalInformation StrainCodeSequence GeneticModificationsSequence OtherPatientNames
OtherPatientIDsSequence ReferencedPatientPhotoSequence EthnicGroupCodeSequence PatientSpeciesDescription
PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence
ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientComments PatientIdentityRemoved
DeidentificationMethod DeidentificationMethodCodeSequence
"""
# PS3.3 C.7.2.1
_GENERAL_STUDY = """
StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
ReferringPhysicianIdentificationSequence ConsultingPhysicianName
ConsultingPhysicianIdentificationSequence StudyDescription ProcedureCodeSequence PhysiciansOfRecord
PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
PhysiciansReadingStudyIdentificationSequence ReferencedStudySequence StudyInstanceUID StudyID
RequestingService RequestingServiceCodeSequence ReasonForPerformedProcedureCodeSequence
"""
# PS3.3 C.7.2.2
_PATIENT_STUDY = """
AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize
PatientSizeCodeSequence PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension PatientWeight
MedicalAlerts Allergies Occupation SmokingStatus AdditionalPatientHistory PregnancyStatus
LastMenstrualDate PatientSexNeutered ReasonForVisit ReasonForVisitCodeSequence AdmissionID
IssuerOfAdmissionIDSequence ServiceEpisodeID ServiceEpisodeDescription IssuerOfServiceEpisodeIDSequence
PatientState
"""
# PS3.3 C.7.1.3 and C.7.2.3
_CLINICAL_TRIAL = """
ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName
IssuerOfClinicalTrialProtocolID OtherClinicalTrialProtocolIDsSequence ClinicalTrialSiteID
ClinicalTrialSiteName IssuerOfClinicalTrialSiteID ClinicalTrialSubjectID IssuerOfClinicalTrialSubjectID
ClinicalTrialSubjectReadingID IssuerOfClinicalTrialSubjectReadingID
ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
ClinicalTrialTimePointID ClinicalTrialTimePointDescription LongitudinalTemporalOffsetFromEvent
LongitudinalTemporalEventType ClinicalTrialTimePointTypeCodeSequence IssuerOfClinicalTrialTimePointID
ConsentForClinicalTrialUseSequence
"""
# SOP Common: without it the copied dates and times would lose their zone.
_TIME_ZONE = "TimezoneOffsetFromUTC"

INHERITED = tuple(f"{_PATIENT}{_GENERAL_STUDY}{_PATIENT_STUDY}{_CLINICAL_TRIAL}{_TIME_ZONE}".split())
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
CHARACTER_SET = "ISO_IR 192"


def copy_study_header(source: Dataset) -> Dataset:
    """Copy the Patient and Study modules of `source` in UTF-8, absent type 2 attributes empty.

    Every text is decoded with the source's own character set first, since a raw copy under another
    character set would garble names. Private attributes inside copied sequences are left behind.
    """
    header = Dataset()
    for keyword in INHERITED:
        if keyword in source:
            header.add(deepcopy(source[keyword]))
    # Items decode with the character set of the dataset around them unless they name their own.
    if "SpecificCharacterSet" in source:
        header.add(deepcopy(source["SpecificCharacterSet"]))
    header.decode()
    _forget_character_sets(header)
    header.SpecificCharacterSet = CHARACTER_SET
    header.remove_private_tags()
    for keyword in TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _forget_character_sets(dataset: Dataset) -> None:
    if "SpecificCharacterSet" in dataset:
        del dataset.SpecificCharacterSet
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _forget_character_sets(item)
