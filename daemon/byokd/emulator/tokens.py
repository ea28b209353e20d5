"""Tokens of the emulator's Entra ID: signed, published as JWKS, and verified for the vaults."""

import hashlib
from collections.abc import Mapping
from typing import Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from byokd.emulator.material import encode
from byokd.emulator.principals import Principal
from byokd.emulator.world import World

LOGIN_HOST: Final = "login.microsoftonline.com"
LOGIN_HOSTS: Final = (LOGIN_HOST, "login.microsoftonline.us", "login.partner.microsoftonline.cn")
"""Entra ID in the public, US government and China cloud (documentation): here one Entra ID under three names."""
EXCHANGE: Final = "api://AzureADTokenExchange"
_EXCHANGES: Final = frozenset({EXCHANGE, f"{EXCHANGE}USGov", f"{EXCHANGE}China"})
RESOURCES: Final = frozenset(
    {
        "https://vault.azure.net",
        "https://management.azure.com",
        "https://storage.azure.com",
        "https://eventgrid.azure.net",
        "https://vault.usgovcloudapi.net",
        "https://vault.azure.cn",
        *_EXCHANGES,
    }
)
"""What a token can be asked for."""
_REMEMBERED: Final = 4_096
"""Verified tokens kept, so that each is verified once; beyond that all are forgotten."""


class TokenAuthority:
    """Signs with one RSA key of its own. Times come from the clock of the world."""

    def __init__(self, world: World, key: rsa.RSAPrivateKey) -> None:
        self._world = world
        self._key = key
        numbers = key.public_key().public_numbers()
        modulus = numbers.n.to_bytes(key.key_size // 8, "big")
        self._kid = encode(hashlib.sha256(modulus).digest())[:27]
        self._jwk = {"kty": "RSA", "use": "sig", "kid": self._kid, "n": encode(modulus), "e": "AQAB"}
        self._verified: dict[bytes, Mapping[str, object]] = {}

    def key_set(self) -> dict[str, object]:
        """The JWKS document."""
        return {"keys": [self._jwk]}

    def public_key_pem(self) -> str:
        """The public key, for those who verify without the JWKS document."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode("ascii")

    def issue(self, principal: Principal, *, tenant_id: str, resource: str, lifetime: int) -> tuple[str, int]:
        """A token for `resource` and the epoch second at which it expires."""
        now = int(self._world.clock())
        object_id = principal.object_ids[tenant_id]
        claims = {
            "aud": resource,
            "iss": token_issuer(tenant_id, resource),
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "appid": principal.client_id,
            "idp": token_issuer(tenant_id, resource),
            "oid": object_id,
            "sub": object_id,
            "tid": tenant_id,
            "uti": str(self._world.next_token()),
            "ver": "2.0" if resource in _EXCHANGES else "1.0",
        }
        return self.sign(claims), now + lifetime

    def sign(self, claims: Mapping[str, object]) -> str:
        """A token with these claims and no others."""
        return jwt.encode(dict(claims), self._key, algorithm="RS256", headers={"kid": self._kid})

    def verify(self, token: str) -> Mapping[str, object] | None:
        """The claims of a token that this authority signed, whatever its times; None for any other."""
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._verified.get(digest)
        if claims is None:
            try:
                claims = jwt.decode(
                    token,
                    self._key.public_key(),
                    algorithms=["RS256"],
                    options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
                )
            except jwt.InvalidTokenError:
                return None
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[digest] = claims
        return claims


def token_issuer(tenant_id: str, resource: str) -> str:
    """The `iss` of a token: the exchange of tokens uses the newer form, Key Vault and ARM the older."""
    if resource in _EXCHANGES:
        return f"https://{LOGIN_HOST}/{tenant_id}/v2.0"
    return f"https://sts.windows.net/{tenant_id}/"
