"""The operator's settings: their defaults hold together, and nonsense is refused by name."""

import pytest
from pydantic import ValidationError

from dspy_operator.settings import OperatorSettings


def test_every_setting_has_a_sentence() -> None:
    assert [name for name, field in OperatorSettings.model_fields.items() if not field.description] == []


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPY_OPERATOR_NAMESPACE", "ml")
    monkeypatch.setenv("DSPY_OPERATOR_CHECKPOINT_INTERVAL", "5")
    settings = OperatorSettings()
    assert (settings.namespace, settings.checkpoint_interval) == ("ml", 5.0)


@pytest.mark.parametrize(
    ("name", "value"), [("WORKERS", "0"), ("CONFIRM_POLL", "0"), ("LOOK_TICK", "nan"), ("LOG_LEVEL", "loud")]
)
def test_a_value_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"DSPY_OPERATOR_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        OperatorSettings()


def test_a_lease_that_could_have_two_holders_is_refused() -> None:
    with pytest.raises(ValidationError, match="retry < renew_deadline < duration"):
        OperatorSettings(lease_renew_deadline=20)
