import json
from pathlib import Path
from typing import Any

import pytest

from dspy_server.errors import SettingsError
from dspy_server.settings import load_settings, parse_config

MINIMAL: dict[str, Any] = {"module": "m:M", "lm": {"primary": {"model": "openai/gpt-4o-mini"}}}

# Everything that the contract gives a server, as it stands in a DSPyDeployment.
FULL = """
{"module": "support_triage:Triage",
 "lm": {"primary": {"model": "openai/gpt-4o-mini", "apiBase": "", "apiKeySecret": {"name": "llm", "key": "openai"},
                    "maxTokens": 1024},
        "fallbacks": [{"model": "anthropic/claude-haiku-4-5", "apiKeySecret": {"name": "llm", "key": "anthropic"}}],
        "timeout": "30s"},
 "serving": {
   "cache": {"redisSecret": {"name": "redis", "key": "url"}, "ttl": "24h", "scope": "User", "staleIfError": "0s",
             "lmMemoryEntries": 5000, "disk": {"enabled": false, "sizeLimit": "1Gi", "maxAge": "168h"}},
   "limits": {"concurrency": 64, "queue": 128, "perUserTokensPerDay": 200000, "maxBodyBytes": 65536,
              "requestsPerSecond": 0, "perUserRequestsPerMinute": 0, "maxFieldChars": 32768,
              "budgetOnRedisError": "Allow"},
   "breaker": {"failures": 5, "openFor": "30s"},
   "cors": {"allowOrigins": ["https://app.example.com"]},
   "degraded": {"outputs": {}}, "parseRetry": true, "artifactLm": "Drop", "warmup": "Stub",
   "capture": {"sample": "0%", "max": 500},
   "logs": {"level": "INFO", "text": "Off", "redact": []}, "tracing": {"sample": "10%"}, "admin": {},
   "podTemplate": {}},
 "scoring": {"function": "support_triage:score", "judge": {}, "sample": "100%",
             "feedbackKeySecret": {"name": "feedback", "key": "hmac"}, "perUserInterval": "0s"}}
"""


def env(config: dict[str, Any], **extra: str) -> dict[str, str]:
    return {"DSPY_SERVER_CONFIG": json.dumps(config), **extra}


def test_every_knob_of_the_contract_is_known() -> None:
    config = parse_config(FULL)
    assert config.lm.timeout == 30
    assert config.serving.cache.disk.size_limit == 1 << 30
    assert config.serving.tracing.sample == 0.1
    assert config.lm.fallbacks[0].model == "anthropic/claude-haiku-4-5"


def test_the_minimal_configuration_has_the_contracts_defaults() -> None:
    config = load_settings(env(MINIMAL)).config
    limits = config.serving.limits
    assert (limits.concurrency, limits.queue, limits.max_body_bytes) == (64, 128, 65536)
    assert (config.lm.timeout, config.lm.primary.max_tokens, config.scoring.sample) == (30, 1024, 1)


def test_null_means_the_default() -> None:
    config = parse_config(json.dumps({**MINIMAL, "serving": {"limits": {"queue": None}, "cors": None}}))
    assert config.serving.limits.queue == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": "x"}, "modle: unknown setting"),
        (
            {"lm": {"primary": {"model": "openai/x", "temprature": 1}}},
            "lm.primary.temprature: unknown setting",
        ),
        ({"serving": {"limits": {"concurency": 1}}}, "serving.limits.concurency: unknown setting"),
        ({"scoring": {"function": "no colon"}}, "scoring.function"),
        ({"scoring": {"sample": "110%"}}, "scoring.sample"),
        ({"lm": {"primary": {"model": "gpt-4o"}}}, "lm.primary.model"),
        (
            {"lm": {"primary": {"model": "openai/x"}, "timeout": "soon"}},
            "lm.timeout: Value error, not a duration",
        ),
        ({"serving": {"limits": {"queue": "128"}}}, "serving.limits.queue"),
        ({"lm": None}, "lm: Field required"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(env({**MINIMAL, **changes}))


def test_a_wrong_value_is_never_quoted() -> None:
    config = {"lm": {"primary": {"model": "sk-secret"}}}
    with pytest.raises(SettingsError) as caught:
        load_settings(env(config))
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_configuration_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        load_settings({"DSPY_SERVER_CONFIG": text})


@pytest.mark.parametrize("name", ["OPENAI_API_BASE", "OPENAI_BASE_URL"])
def test_a_foreign_endpoint_in_the_environment_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(env(MINIMAL, **{name: "http://decoy"}))


def test_a_file_is_read_and_a_missing_one_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(SettingsError, match=r"config\.json"):
        load_settings({}, path)
    path.write_text(json.dumps(MINIMAL))
    assert load_settings({}, path).config.module == "m:M"


def test_keys_come_from_the_environment_and_are_never_printed() -> None:
    config = {**MINIMAL, "lm": {**MINIMAL["lm"], "fallbacks": [{"model": "anthropic/x"}]}}
    settings = load_settings(
        env(
            config,
            DSPY_LM_KEY_0="sk-one",
            DSPY_LM_KEY_1="sk-two",
            DSPY_FEEDBACK_KEY="sk-three",
            DSPY_REDIS_URL="redis://:sk-four@redis",
        )
    )
    assert settings.lm_keys == ("sk-one", "sk-two")
    assert "sk-" not in repr(settings)


def test_the_pods_environment_has_the_contracts_defaults() -> None:
    process = load_settings(env(MINIMAL)).process
    assert str(process.routes) == "/etc/dspy/routes/routes.json"
    assert (process.port, process.metrics_port, process.shutdown_delay, process.slot_wait) == (
        8080,
        9090,
        5,
        120,
    )
    assert load_settings(env(MINIMAL, DSPY_SHUTDOWN_DELAY="1s")).process.shutdown_delay == 1


def test_a_wrong_port_is_named() -> None:
    with pytest.raises(SettingsError, match="port"):
        load_settings(env(MINIMAL, DSPY_PORT="http"))


def test_a_redaction_pattern_that_could_take_for_ever_is_refused_by_its_place() -> None:
    with pytest.raises(SettingsError, match=r"serving\.logs\.redact\.1: .*repeats too much"):
        parse_config(
            json.dumps(
                {"lm": {"primary": {"model": "openai/x"}}, "serving": {"logs": {"redact": ["a+b", "a+b+c"]}}}
            )
        )
