"""dicom-validator, with the tables of PS3.3 that it would download out of the wheel `dicom-standard`.

They are of edition 2020b: what is newer counts as unexpected. What the wheel has lost is left to the other
validators: enumerated values, and content items, in whose table no macro says which value type it is for.
"""

import html
import json
import re
from collections import defaultdict
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from dicom_validator.spec_reader.condition import ConditionType
from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.serializer import DefinitionEncoder
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import NullValidationResultHandler
from dicom_validator.validator.iod_validator import IODValidator
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag

Table = dict[str, Any]

FUNCTIONAL_GROUPS = {"(5200,9229)", "(5200,9230)"}
CONTENT_SEQUENCE = "(0040,A730)"
# what a content item that is no CONTAINER must have, and no root is one
VALUES = {
    ("sr-document-content", tag)
    for tag in (
        "(0040,A300)",
        "(0040,A168)",
        "(0008,1199)",
        "(0070,0022)",
        "(0070,0023)",
        "(3006,0024)",
        "(0040,A130)",
        "(0040,A138)",
        "(0040,A13A)",
    )
}


def complaints(dataset: Dataset) -> list[str]:
    """What dicom-validator finds against an object, each as "module: keywords: what is wrong"."""
    tables = _tables(dataset.SOPClassUID)
    result = IODValidator(dataset, tables, error_handler=NullValidationResultHandler()).validate()
    return [
        f"{module}: {'.'.join(map(keyword_for_tag, [*(tag.parents or []), tag.tag]))}: {error.code.name}"
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    ]


@cache
def _tables(sop_class_uid: str) -> DicomInfo:
    """The modules and functional groups of one SOP class, in the validator's form."""
    (name,) = (row["ciod"] for row in _rows("sops") if row["id"] == sop_class_uid)
    (iod,) = (row["id"] for row in _rows("ciods") if row["name"] == name)
    modules = _uses("ciod_to_modules", "moduleId", iod)
    groups = _uses("ciod_to_fg_macros", "macroId", iod)
    tables = {use["ref"]: _attributes("module_to_attributes", use["ref"]) for use in modules.values()}
    tables |= {use["ref"]: _attributes("macro_to_attributes", use["ref"][6:]) for use in groups.values()}
    iods = {sop_class_uid: {"title": name, "modules": modules, "group_macros": groups}}
    return DicomInfo(_dictionary(), iods, tables)


def _uses(table: str, key: str, iod: str) -> Table:
    """Which modules or macros an IOD has, and when it must have them."""
    uses = {}
    for row in _rows(table):
        if row["ciodId"] != iod:
            continue
        # a module and a macro may share an id
        use = {"ref": row[key] if key == "moduleId" else f"macro {row[key]}", "use": row["usage"]}
        if row["conditionalStatement"]:
            use["cond"] = _condition(row["conditionalStatement"])
        uses[row[key]] = use
    return uses


def _attributes(table: str, name: str) -> Table:
    """One module's attributes by tag, those of items inside their sequence's."""
    attributes: Table = {}
    for row in _rows_by_owner(table)[name]:
        *parents, tag = (
            f"({part[:4]},{part[4:]})".upper().replace("XX", "xx") for part in row["path"].split(":")[1:]
        )
        if CONTENT_SEQUENCE in parents or (name, (parents or [tag])[0]) in VALUES:
            continue
        level = attributes
        for parent in parents:
            level = level[parent].setdefault("items", {})
        attribute = {"name": row["path"], "type": row["type"]}
        if row["type"] in {"1C", "2C", "3"}:
            condition = _condition(html.unescape(re.sub(r"<[^>]*>", "", row["description"])))
            if condition["type"] != ConditionType.UserDefined:
                attribute["cond"] = condition
        if tag in FUNCTIONAL_GROUPS:
            attribute["items"] = {"include": [{"ref": "FuncGroup"}]}
        level[tag] = attribute
    return attributes


def _condition(text: str) -> Table:
    condition: Table = json.loads(json.dumps(_parser().parse(text), cls=DefinitionEncoder))
    return condition


@cache
def _parser() -> ConditionParser:
    return ConditionParser(_dictionary())


@cache
def _dictionary() -> Table:
    return {
        row["tag"]: {"name": row["name"], "vr": row["valueRepresentation"], "vm": row["valueMultiplicity"]}
        for row in _rows("attributes")
    }


@cache
def _rows_by_owner(table: str) -> dict[str, list[Table]]:
    rows = defaultdict(list)
    for row in _rows(table):
        rows[row["path"].split(":")[0]].append(row)
    return rows


@cache
def _rows(table: str) -> list[Table]:
    files = distribution("dicom-standard").files or []
    (path,) = (file for file in files if file.name == f"{table}.json")
    rows: list[Table] = json.loads(Path(str(path.locate())).read_text())
    return rows
