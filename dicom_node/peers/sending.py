"""Sending to a destination in the way that it takes: DIMSE or DICOMweb."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Discriminator, Tag

from dicom_node.peers import scu, stow
from dicom_node.peers.scu import Destination, InstanceKey, SendOutcome
from dicom_node.peers.stow import WebDestination


def _way(value: object) -> str:
    is_web = "url" in value if isinstance(value, dict) else isinstance(value, WebDestination)
    return "web" if is_web else "dicom"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dicom")] | Annotated[WebDestination, Tag("web")], Discriminator(_way)
]
"""A destination of the settings: with a `url` it is one of DICOMweb."""


def send(files: Sequence[Path], destination: Destination | WebDestination) -> Iterator[SendOutcome]:
    """Send by C-STORE or STOW-RS: `scu.send`, `stow.store`."""
    if isinstance(destination, WebDestination):
        return stow.store(files, destination)
    return scu.send(files, destination)


def find_instances(
    destination: Destination | WebDestination, wanted: Iterable[InstanceKey]
) -> frozenset[str]:
    """Ask by C-FIND or QIDO-RS: `scu.find_instances`, `stow.find_stored`."""
    if isinstance(destination, WebDestination):
        return stow.find_stored(destination, wanted)
    return scu.find_instances(destination, wanted)


def echo(destination: Destination | WebDestination) -> None:
    """Ask whether it answers, by C-ECHO or QIDO-RS: `scu.echo`, `stow.ask_anything`."""
    if isinstance(destination, WebDestination):
        stow.ask_anything(destination)
    else:
        scu.echo(destination)
