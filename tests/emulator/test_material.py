"""Key pairs: made beside the event loop, and pooled for big worlds."""

import asyncio

from byokd.emulator import Curve, KeyMaker


async def test_event_loop_goes_on_while_a_key_is_made() -> None:
    made = asyncio.ensure_future(KeyMaker().rsa(3072))
    turns = 0
    while not made.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await made).size == 3072
    assert turns > 10


async def test_pool_hands_its_keys_out_in_turn() -> None:
    maker = KeyMaker(pool=2)
    first, second, third, fourth = [(await maker.rsa(1024)).public_jwk()["n"] for _ in range(4)]
    assert (third, fourth) == (first, second)
    assert first != second
    assert (await KeyMaker().rsa(1024)).public_jwk()["n"] not in {first, second}


def test_material_does_not_show_itself() -> None:
    material = KeyMaker().ec(Curve.P256)
    assert repr(material) == "EcMaterial(curve=<Curve.P256: 'P-256'>)"
