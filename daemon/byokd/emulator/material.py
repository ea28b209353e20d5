"""Key pairs: made off the event loop, and used as Key Vault uses them."""

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from byokd.emulator.refusals import bad_parameter
from byokd.emulator.vocabulary import Curve

_PADDINGS: Final[dict[str, Callable[[], padding.AsymmetricPadding]]] = {
    "RSA-OAEP-256": lambda: padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    "RSA-OAEP": lambda: padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303 - the service has it
    "RSA1_5": padding.PKCS1v15,
}
_CURVES: Final[dict[Curve, Callable[[], ec.EllipticCurve]]] = {
    Curve.P256: ec.SECP256R1,
    Curve.P384: ec.SECP384R1,
    Curve.P521: ec.SECP521R1,
}
_SLOW_BITS: Final = 2048
"""RSA keys above this size work in a thread: 2048 bits take about 1 ms, 4096 about 5."""


def encode(octets: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The octets of base64url text, padded or not; ValueError for anything else."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@dataclass(frozen=True, slots=True)
class RsaMaterial:
    """An RSA key pair. It is never shown: neither by `repr` nor by any view of the world."""

    private: rsa.RSAPrivateKey = field(repr=False)

    @property
    def size(self) -> int:
        """Length of the modulus in bits."""
        return self.private.key_size

    def public_jwk(self) -> dict[str, str]:
        """The members of the JSON web key that anyone may see."""
        numbers = self.private.public_key().public_numbers()
        return {"n": _integer(numbers.n), "e": _integer(numbers.e)}

    async def wrap(self, algorithm: str, octets: bytes) -> bytes:
        """`octets` encrypted with the public key; Refusal when algorithm or length do not fit."""
        scheme = _padding(algorithm)
        try:
            return self.private.public_key().encrypt(octets, scheme)
        except ValueError:
            raise bad_parameter("The parameter is incorrect.") from None

    async def unwrap(self, algorithm: str, octets: bytes) -> bytes:
        """What was wrapped; Refusal when it was not wrapped by this key and algorithm."""
        scheme = _padding(algorithm)
        try:
            if self.size > _SLOW_BITS:
                return await asyncio.to_thread(self.private.decrypt, octets, scheme)
            return self.private.decrypt(octets, scheme)
        except ValueError:
            raise bad_parameter("The parameter is incorrect.") from None


@dataclass(frozen=True, slots=True)
class EcMaterial:
    """An EC key pair: it can be made and read, but wraps nothing."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    curve: Curve

    @property
    def size(self) -> int:
        """Length of a field element in bits."""
        return self.private.key_size

    def public_jwk(self) -> dict[str, str]:
        """The members of the JSON web key that anyone may see."""
        numbers, octets = self.private.public_key().public_numbers(), (self.size + 7) // 8
        x, y = numbers.x.to_bytes(octets, "big"), numbers.y.to_bytes(octets, "big")
        return {"crv": self.curve, "x": encode(x), "y": encode(y)}

    async def wrap(self, algorithm: str, octets: bytes) -> bytes:
        """Refused: EC keys sign and verify only."""
        raise _operation_unsupported(algorithm, octets)

    async def unwrap(self, algorithm: str, octets: bytes) -> bytes:
        """Refused: EC keys sign and verify only."""
        raise _operation_unsupported(algorithm, octets)


Material = RsaMaterial | EcMaterial


class KeyMaker:
    """Makes key pairs in threads, so that the event loop goes on.

    With `pool` set, about that many distinct RSA keys of each size are made, and then handed out again in turn: for
    worlds of thousands of keys, and for many worlds that share one maker. Versions of a key then come round again.
    """

    def __init__(self, pool: int | None = None) -> None:
        self._pool = pool
        self._made: dict[int, deque[RsaMaterial]] = {}

    async def rsa(self, size: int) -> RsaMaterial:
        """An RSA key of `size` bits."""
        made = self._made.setdefault(size, deque())
        if self._pool is None or len(made) < self._pool:
            fresh = await asyncio.to_thread(_generate, size)
            if self._pool is not None:
                made.append(fresh)
            return fresh
        made.rotate(-1)
        return made[-1]

    def ec(self, curve: Curve) -> EcMaterial:
        """An EC key on `curve`: quick enough to be made at once."""
        return EcMaterial(ec.generate_private_key(_CURVES[curve]()), curve)


def _generate(size: int) -> RsaMaterial:
    return RsaMaterial(rsa.generate_private_key(public_exponent=65537, key_size=size))


def _padding(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm not in _PADDINGS:
        raise bad_parameter("Property alg has invalid value")
    return _PADDINGS[algorithm]()


def _integer(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _operation_unsupported(algorithm: str, octets: bytes) -> Exception:
    return bad_parameter(f"Key and signing algorithm are incompatible: {algorithm} over {len(octets)} octets")
