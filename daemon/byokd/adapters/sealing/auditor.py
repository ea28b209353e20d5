"""HMAC-SHA-256 under the audit key."""

import hmac

from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.ports import ServiceKey, Signature


class HmacAuditor:
    """See the port."""

    def __init__(self, keys: FileServiceKeys) -> None:
        self._keys = keys

    def sign(self, data: bytes) -> Signature:
        """See `Auditor.sign`."""
        key_id = self._keys.newest(ServiceKey.AUDIT)
        return Signature(key_id, self._mac(key_id, data))

    def is_genuine(self, data: bytes, signature: Signature) -> bool:
        """See `Auditor.is_genuine`."""
        return hmac.compare_digest(self._mac(signature.key_id, data), signature.mac)

    def _mac(self, key_id: str, data: bytes) -> bytes:
        return hmac.digest(self._keys.key(ServiceKey.AUDIT, key_id), data, "sha256")
