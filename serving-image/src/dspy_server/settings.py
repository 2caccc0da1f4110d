"""What the operator, or a person with a laptop, configures: `spec.lm`, `spec.serving` and `spec.scoring`.

Strict and frozen; an unknown key ends the process with code 2 and its name. Secrets are only referred to.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from dspy_server import contract
from dspy_server.errors import SettingsError
from dspy_server.patterns import compile_pattern

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SIZES: Final = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
FOREIGN_ENDPOINTS: Final = ("OPENAI_API_BASE", "OPENAI_BASE_URL")
"""Variables that would make DSPy leave the configured targets."""


def parse_duration(value: object) -> object:
    """Seconds of `90s`, `1h30m` or `250ms`; anything that is no string is left to the schema."""
    if not isinstance(value, str):
        return value
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError("not a duration such as 30s, 5m or 24h")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_percent(value: object) -> object:
    """The fraction of `12.5%`; anything that is no string is left to the schema."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%", value)
    if match is None:
        raise ValueError("not a percentage such as 12.5%")
    return float(match[1]) / 100


def parse_size(value: object) -> object:
    """Bytes of `512Mi`; anything that is no string is left to the schema."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,9})(Ki|Mi|Gi)?", value)
    if match is None:
        raise ValueError("not a size such as 512Mi or 1Gi")
    return int(match[1]) * _SIZES[match[2] or ""]


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
Fraction = Annotated[float, BeforeValidator(parse_percent), Field(ge=0, le=1)]
Bytes = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]


def _check_pattern(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


class Section(BaseModel):
    """A part of the configuration: camelCase, frozen, no unknown keys; `null` means the default."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, populate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: object) -> object:
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value


class KeyRef(Section):
    """A key of a Secret; the operator mounts it, the server only needs to know that there is one."""

    name: str
    key: str = ""


class Target(Section):
    """One LM that can answer."""

    model: str = Field(pattern=r"^[^/\s]+/\S+$")
    api_base: str = ""
    api_key_secret: KeyRef | None = None
    max_tokens: int = Field(default=1024, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)


class Lm(Section):
    """`spec.lm`: who answers, in order, and the whole request's deadline."""

    primary: Target
    fallbacks: list[Target] = []
    timeout: Seconds = 30.0


class DiskCache(Section):
    """`cache.disk`."""

    enabled: bool = False
    size_limit: Bytes = 1 << 30
    max_age: Seconds = 168 * 3600.0


class Cache(Section):
    """`spec.serving.cache`."""

    redis_secret: KeyRef | None = None
    ttl: Seconds = 24 * 3600.0
    scope: Literal["User", "Shared", "Off"] = "User"
    stale_if_error: Seconds = 0.0
    lm_memory_entries: int = Field(default=5000, ge=0)
    disk: DiskCache = DiskCache()


class Limits(Section):
    """`spec.serving.limits`."""

    concurrency: int = Field(default=64, ge=1)
    queue: int = Field(default=128, ge=0)
    per_user_tokens_per_day: int = Field(default=0, ge=0)
    max_body_bytes: int = Field(default=65536, ge=1)
    requests_per_second: int = Field(default=0, ge=0)
    per_user_requests_per_minute: int = Field(default=0, ge=0)
    max_field_chars: int = Field(default=32768, ge=1)
    budget_on_redis_error: Literal["Allow", "Deny"] = "Allow"


class Breaker(Section):
    """`spec.serving.breaker`."""

    failures: int = Field(default=5, ge=1)
    open_for: Seconds = 30.0


class Cors(Section):
    """`spec.serving.cors`."""

    allow_origins: list[Annotated[str, Field(pattern=r"^https?://[^*\s/]+$")]] = []


class Degraded(Section):
    """`spec.serving.degraded`."""

    outputs: dict[str, Any] = {}


class Capture(Section):
    """`spec.serving.capture`."""

    sample: Fraction = 0.0
    max: int = Field(default=500, ge=0)


class Logs(Section):
    """`spec.serving.logs`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    text: Literal["Off", "Redacted"] = "Off"
    redact: list[Annotated[str, AfterValidator(_check_pattern)]] = []


class Tracing(Section):
    """`spec.serving.tracing`."""

    endpoint: str = Field(default="", pattern=r"^$|^https?://[^\s/]\S*$")
    sample: Fraction = 0.1


class Admin(Section):
    """`spec.serving.admin`."""

    token_secret: KeyRef | None = None


class Serving(Section):
    """`spec.serving`; `podTemplate` is the operator's business and is ignored here."""

    cache: Cache = Cache()
    limits: Limits = Limits()
    breaker: Breaker = Breaker()
    cors: Cors = Cors()
    degraded: Degraded = Degraded()
    parse_retry: bool = True
    artifact_lm: Literal["Drop", "Allow"] = "Drop"
    warmup: Literal["Stub", "Live"] = "Stub"
    capture: Capture = Capture()
    logs: Logs = Logs()
    tracing: Tracing = Tracing()
    admin: Admin = Admin()
    pod_template: dict[str, Any] = {}


class Judge(Section):
    """`spec.scoring.judge`: on as soon as a program or a model is named."""

    module: str = Field(default="", pattern=r"^$|^[\w.]+:\w+$")
    lm: Target | None = None
    tokens_per_day: int = Field(default=0, ge=0)

    @property
    def is_on(self) -> bool:
        """Whether answers are judged."""
        return bool(self.module) or self.lm is not None


class Scoring(Section):
    """`spec.scoring`: the ruler, the same for both revisions."""

    function: str = Field(default="", pattern=r"^$|^[\w.]+:\w+$")
    judge: Judge = Judge()
    sample: Fraction = 1.0
    feedback_key_secret: KeyRef | None = None
    per_user_interval: Seconds = 0.0


class Config(Section):
    """The JSON of `DSPY_SERVER_CONFIG` or of `--config FILE`."""

    module: str = ""
    lm: Lm
    serving: Serving = Serving()
    scoring: Scoring = Scoring()


class Process(Section):
    """What the pod's own environment says: names, paths, ports, clocks."""

    program: str = "program"
    workload: str = ""
    routes: Path = Path(contract.ROUTES_DIR) / contract.ROUTES_KEY
    programs_root: Path = Path(contract.PROGRAMS_DIR)
    source: Path = Path(contract.SOURCE_DIR)
    pull: Path = Path(contract.PULL_DIR)
    host: str = "0.0.0.0"  # noqa: S104 - a server in a pod
    port: int = contract.PORT_HTTP
    metrics_port: int = contract.PORT_METRICS
    shutdown_delay: Seconds = 5.0
    slot_wait: Seconds = 120.0
    cache_dir: Path = Path(contract.CACHE_DIR)
    admin_token: Path = Path(contract.ADMIN_DIR) / contract.ADMIN_KEY


class Settings(Section):
    """Everything the process is told at its start."""

    config: Config
    process: Process
    lm_keys: tuple[str, ...] = Field(repr=False)
    feedback_key: str = Field(repr=False)
    redis_url: str = Field(default="", repr=False)
    judge_key: str = Field(default="", repr=False)


def load_settings(env: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """Settings from `--config FILE`, else from `DSPY_SERVER_CONFIG`, and the pod's environment.

    Raises:
        SettingsError: names the key or the variable that is wrong.
    """
    for name in FOREIGN_ENDPOINTS:
        if env.get(name):
            raise SettingsError(f"{name} is set: unset it and give lm.primary.apiBase instead")
    config = parse_config(_read_text(env, config_file))
    count = 1 + len(config.lm.fallbacks)
    return Settings(
        config=config,
        process=_read_process(env),
        lm_keys=tuple(env.get(f"{contract.ENV_LM_KEY_PREFIX}{i}", "") for i in range(count)),
        feedback_key=env.get(contract.ENV_FEEDBACK_KEY, ""),
        redis_url=env.get(contract.ENV_REDIS_URL, ""),
        judge_key=env.get(contract.ENV_JUDGE_KEY, ""),
    )


def parse_config(text: str) -> Config:
    """The configuration in a JSON text.

    Raises:
        SettingsError: names each wrong key.
    """
    try:
        return Config.model_validate(json.loads(text))
    except json.JSONDecodeError as exc:
        raise SettingsError(f"the configuration is not JSON: {exc}") from exc
    except ValidationError as exc:
        raise SettingsError(_describe(exc)) from exc


def _read_text(env: Mapping[str, str], config_file: Path | None) -> str:
    if config_file is None:
        text = env.get(contract.ENV_SERVER_CONFIG, "")
        if not text:
            raise SettingsError(f"no configuration: set {contract.ENV_SERVER_CONFIG} or give --config FILE")
        return text
    try:
        return config_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"cannot read {config_file}: {exc}") from exc


def _read_process(env: Mapping[str, str]) -> Process:
    names = {
        "program": contract.ENV_PROGRAM,
        "workload": contract.ENV_WORKLOAD,
        "routes": contract.ENV_ROUTES,
        "programs_root": contract.ENV_PROGRAMS_ROOT,
        "source": contract.ENV_SOURCE,
        "pull": contract.ENV_PULL,
        "host": "DSPY_HOST",
        "port": "DSPY_PORT",
        "metrics_port": "DSPY_METRICS_PORT",
        "shutdown_delay": "DSPY_SHUTDOWN_DELAY",
        "slot_wait": "DSPY_SLOT_WAIT",
        "cache_dir": "DSPY_CACHEDIR",
        "admin_token": "DSPY_ADMIN_TOKEN_FILE",
    }
    try:
        return Process.model_validate(
            {field: env[name] for field, name in names.items() if env.get(name)}, strict=False
        )
    except ValidationError as exc:
        raise SettingsError(_describe(exc)) from exc


def _describe(error: ValidationError) -> str:
    """One sentence a mistake, with the path of the key and never its value, which may be a secret."""
    sentences = []
    for item in error.errors(include_input=False, include_url=False):
        path = ".".join(str(part) for part in item["loc"]) or "the configuration"
        known = item["type"] != "extra_forbidden"
        sentences.append(f"{path}: {item['msg']}" if known else f"{path}: unknown setting")
    return "; ".join(sentences)


def get_environment() -> Mapping[str, str]:
    """The process's environment; tests hand in their own."""
    return os.environ
