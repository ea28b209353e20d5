import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.answers import Evidence, KeyFacts
from byokd.domain.refusals import explain
from byokd.domain.vocabulary import RefusalKind
from domain.scenes import NOW, SECOND, TROUBLE, facts, refused, silent


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
@pytest.mark.parametrize("key_type", ["RSA", "RSA-HSM"])
def test_rsa_keys_of_three_sizes_are_taken(bits: int, key_type: str) -> None:
    assert facts(bits=bits, key_type=key_type).unfit_for_wrapping(NOW) is None


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (facts(key_type="EC"), "of type 'EC'"),
        (facts(key_type="oct-HSM"), "of type 'oct-HSM'"),
        (facts(bits=1024), "1024 bits"),
        (facts(bits=8192), "8192 bits"),
        (facts(bits=0), "0 bits"),
        (facts(enabled=False), "disabled"),
        (facts(expires=NOW), "expired at 2026-11-05T12:00:00Z"),
        (facts(not_before=NOW + SECOND), "not valid before 2026-11-05T12:00:01Z"),
        (facts(operations=frozenset()), "lack unwrapKey and wrapKey"),
        (facts(operations=frozenset({"wrapKey"})), "lack unwrapKey"),
    ],
)
def test_an_unfit_version_is_refused_with_the_reason(unfit: KeyFacts, why: str) -> None:
    assert why in str(unfit.unfit_for_wrapping(NOW))


def test_validity_is_no_matter_of_registration() -> None:
    assert facts(enabled=False, expires=NOW).unfit_for_registration() is None


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (facts(), "enabled"),
        (facts(enabled=False), "disabled"),
        (
            facts(not_before=NOW, expires=NOW + SECOND),
            "enabled, valid from 2026-11-05T12:00:00Z, expires 2026-11-05T12:00:01Z",
        ),
        (facts(operations=frozenset()), "enabled, lacks unwrapKey and wrapKey"),
    ],
)
def test_what_get_told_of_a_version_is_evidence_in_words_of_our_own(version: KeyFacts, told: str) -> None:
    assert version.evidence == Evidence("get", status=200, told=f"version {version.version}: {told}")


@given(st.text())
def test_what_a_vault_calls_its_key_cannot_steer_a_message(key_type: str) -> None:
    assert (facts(key_type=key_type).unfit_for_registration() or "").isprintable()


@pytest.mark.parametrize("answer", [*map(refused, RefusalKind), *map(silent, TROUBLE)])
def test_every_refusal_and_trouble_is_explained_with_what_to_do(answer: object) -> None:
    explanation = explain(answer)
    assert explanation.message
    assert explanation.hint
