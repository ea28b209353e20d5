import pytest

from byokd.domain.mending import what_mends
from byokd.domain.values import ValueNameInvalidError, parse_value_name
from domain.scenes import DENIALS, TROUBLE


@pytest.mark.parametrize("name", ["a", "Video-1", "7", "a.b_c-D", "0f1e2d3c-0000-4000-8000-00000000d0d0", "x" * 128])
def test_names_are_kept_as_they_are(name: str) -> None:
    assert parse_value_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a b", "a\n", "ä", "x" * 129, "a\x00"])
def test_other_names_are_refused_with_what_is_right(name: str) -> None:
    with pytest.raises(ValueNameInvalidError, match="not a name of a protected value") as refused:
        parse_value_name(name)
    assert refused.value.hint.startswith("1 to 128 letters")


def test_every_reason_of_a_denial_has_its_remedy() -> None:
    general = what_mends(None)
    assert all(what_mends(reason) != general for reason in DENIALS)
    assert {what_mends(reason) for reason in TROUBLE} == {general}
    assert general.startswith("byokd check ACCOUNT")
