import os
from dataclasses import replace
from pathlib import Path

import pytest

from byokd.adapters.sealing.auditor import HmacAuditor
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.ports import ServiceKey, ServiceKeyMissingError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    for kind in ServiceKey:
        put(tmp_path, f"{kind}.1.key")
    return tmp_path


def put(directory: Path, name: str) -> None:
    path = directory / name
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)


def test_only_what_was_signed_is_genuine(directory: Path) -> None:
    auditor = HmacAuditor(FileServiceKeys(directory))
    signature = auditor.sign(b"what happened")
    assert auditor.is_genuine(b"what happened", signature)
    assert not auditor.is_genuine(b"what did not", signature)
    assert not auditor.is_genuine(b"what happened", replace(signature, mac=bytes(32)))


def test_a_new_audit_key_signs_and_the_older_one_still_vouches(directory: Path) -> None:
    old = HmacAuditor(FileServiceKeys(directory)).sign(b"data")
    put(directory, "audit.2.key")
    auditor = HmacAuditor(FileServiceKeys(directory))
    assert auditor.sign(b"data").key_id == "2"
    assert auditor.is_genuine(b"data", old)
    (directory / "audit.1.key").unlink()
    with pytest.raises(ServiceKeyMissingError, match="audit key '1'"):
        HmacAuditor(FileServiceKeys(directory)).is_genuine(b"data", old)
