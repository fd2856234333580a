"""Unique identifiers that follow from what they name."""

import hashlib

from pydicom.uid import UID


def derive_uid(*parts: str) -> UID:
    """Derive a UID under 2.25 from 128 bits of the parts' SHA-256; same parts, same UID.

    Each part is hashed behind its length, so that ("ab", "c") and ("a", "bc") differ. The number after
    2.25 is a plain integer below 2^128, so it has no leading zero, and 44 characters suffice (PS3.5 B.2).
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return UID(f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}")


IMPLEMENTATION_CLASS_UID = derive_uid("gliograde", "implementation class")
IMPLEMENTATION_VERSION_NAME = "GLIOGRADE"
