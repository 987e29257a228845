"""Files that begin with the sha256 of the rest, so that a truncated or altered one is recognized. No torch.

Checkpoints are such files: 32 bytes of digest, then what torch.save writes.
"""

import hashlib
from pathlib import Path

from resnet_lab.files import open_regular

SIZE = 32  # bytes of a sha256


def sealed(content: memoryview) -> tuple[bytes, memoryview]:
    """The parts of the file, to be written in order."""
    return hashlib.sha256(content).digest(), content


def unsealed(path: Path) -> bytes | None:
    """The content; None if it does not match the digest before it.

    Raises:
        OSError, UserError: it cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        digest, content = file.read(SIZE), file.read()
    return content if hashlib.sha256(content).digest() == digest else None


def digest_of(path: Path) -> str:
    """The digest that the file begins with, in hexadecimal; raises as `unsealed`."""
    with open_regular(path) as file:
        return file.read(SIZE).hex()
