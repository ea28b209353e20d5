"""What a ciphertext is bound to, as associated data."""

from byokd.ports import SealContext


def bound(purpose: str, context: SealContext, *more: str) -> bytes:
    """Give a purpose, a context and more as bytes that nothing else gives: each part is preceded by its length."""
    parts = (
        purpose,
        *more,
        str(context.account),
        context.kind,
        context.name,
        str(context.generation),
        context.key_identifier,
    )
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
