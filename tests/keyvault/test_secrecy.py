"""Nothing secret is shown: not in logs at their loudest, not in evidence, not in representations."""

import base64
import logging
from collections.abc import Iterator

import pytest

from byokd.domain.answers import NoAnswer, Refused
from byokd.emulator import FaultKind
from keyvault.way import VAULT, Azure

PLAINTEXT = b"the plaintext of an account key!"


@pytest.fixture
def every_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All loggers at DEBUG, those too that set a level of their own."""
    caplog.set_level(logging.DEBUG)  # before the rest: it puts back what it met
    levels = {}
    for name in [None, *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        levels[logger] = (logger.level, logger.disabled, logger.propagate)
        logger.setLevel(logging.DEBUG)
        logger.disabled, logger.propagate = False, True
    yield caplog
    for logger, (level, disabled, propagate) in levels.items():
        logger.setLevel(level)
        logger.disabled, logger.propagate = disabled, propagate


async def test_no_token_plaintext_or_wrapped_value_is_logged_or_shown(
    azure: Azure, every_log: pytest.LogCaptureFixture
) -> None:
    target, wrapped = await azure.wrapped(PLAINTEXT)
    token = await azure.credentials.token(
        target.identity, scope="https://vault.azure.net/.default", tenant=target.tenant
    )
    shown = []
    for fault in (None, *FaultKind):
        if fault in (FaultKind.LATENCY, FaultKind.HANG):
            continue
        if fault is not None:
            await azure.emulator.control.set_fault(VAULT, fault)
        for service in (azure.service, azure.fresh):
            answers = [await service.get(target), await service.unwrap(target, wrapped)]
            shown += [repr(answer) for answer in answers if isinstance(answer, Refused | NoAnswer)]
        await azure.emulator.control.clear_faults()
    await azure.emulator.control.set_fault("managed-identity", FaultKind.TRUNCATED)
    azure.clock.ahead = 3600 * 24
    shown.append(repr(await azure.service.unwrap(target, wrapped)))
    shown += [repr(azure.credentials), repr(azure.service), repr(vars(azure.credentials)), repr(vars(azure.service))]

    text = "\n".join([*(record.getMessage() for record in every_log.records), every_log.text, *shown])
    assert "ManagedIdentityCredential" in text  # the net catches
    secrets = [token, token.split(".")[1], token.split(".")[2]]
    for value in (PLAINTEXT, wrapped):
        encoded = base64.b64encode(value).decode()
        secrets += [repr(value)[2:-1], encoded, encoded.rstrip("="), value.hex()]
        secrets.append(base64.urlsafe_b64encode(value).decode().rstrip("="))
    assert not [secret for secret in secrets if secret in text]
