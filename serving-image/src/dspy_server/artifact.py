"""Bytes of an artifact -> checked state, or reasons: nothing in it may reach endpoint, keys, engine or code.

Pure, standard library only, and before DSPy sees a byte. The module's shape is handed in by `program.py`.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dspy_server.artifact_lm import LmChoice, check_choice
from dspy_server.errors import DigestError, RefusedError, SignatureError

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 2_000_000
"""Counted before anything is parsed: 16 MiB of empty lists take 450 MB and hold the interpreter for seconds."""
MAX_DEMOS: Final = 1000
PREDICTOR_KEYS: Final = frozenset({"traces", "train", "demos", "signature", "fields", "lm"})
REQUIRED_KEYS: Final = frozenset({"traces", "train", "demos", "signature", "lm"})
SIGNATURE_KEYS: Final = frozenset({"instructions", "fields"})
FIELD_KEYS: Final = frozenset({"prefix", "description"})
DECISION_KEYS: Final = frozenset({"instructions", "criteria", "threshold", "cuts", "weights"})
VERSION_KEYS: Final = frozenset({"python", "dspy", "cloudpickle"})
METADATA: Final = "metadata"
VERSIONS: Final = "dependency_versions"
AUGMENTED: Final = "augmented"
ROOT: Final = "self"
_DEFAULT_DESCRIPTION: Final = re.compile(r"\$\{(\w+)\}")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+_-]{1,64}")


@dataclass(frozen=True)
class PredictorShape:
    """What the module's code says about one predictor: its fields in order, with prefix and description of each."""

    fields: tuple[str, ...]
    prefixes: tuple[str, ...]
    descriptions: tuple[str, ...]
    decisions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shape:
    """The predictors of a module by name; `flat` if the module itself is the one predictor."""

    predictors: Mapping[str, PredictorShape]
    flat: bool = False


@dataclass(frozen=True)
class Checked:
    """A state that may be loaded.

    Attributes:
        state: what `load_state` gets; traces, train and lm are emptied.
        notes: what was dropped or looks odd, one sentence each.
        choices: by predictor, the LM that it asks for.
    """

    state: dict[str, Any]
    dspy_version: str
    notes: tuple[str, ...] = ()
    choices: Mapping[str, LmChoice] = field(default_factory=dict)


@dataclass
class _Findings:
    """What a check collects on its way; `models` are those that predictors may choose, None: they may not."""

    models: frozenset[str] | None = None
    reasons: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    choices: dict[str, LmChoice] = field(default_factory=dict)


def check(
    data: bytes,
    sha256: str,
    shape: Shape | None,
    *,
    dspy_version: str,
    models: frozenset[str] | None = None,
) -> Checked:
    """The state in `data`, if its digest, every key in it and its shape are right.

    `shape` None checks all but the fit to a module. `dspy_version` is the running one. `models` are those that the
    predictors may choose; None drops what an artifact says of an LM.

    Raises:
        DigestError, RefusedError, SignatureError: with all reasons.
    """
    verify_digest(data, sha256)
    state = _parse(data)
    found = _Findings(models)
    version = _check_metadata(state.pop(METADATA, None), dspy_version, found)
    is_flat = _is_flat(state) if shape is None else shape.flat
    predictors = {ROOT: state} if is_flat else state
    _check_names(predictors, shape, found)
    cleaned = {
        name: _check_predictor(name, value, None if shape is None else shape.predictors.get(name), found)
        for name, value in predictors.items()
        if shape is None or name in shape.predictors
    }
    if found.reasons:
        raise RefusedError(*found.reasons)
    if found.mismatches:
        raise SignatureError(*found.mismatches)
    state = cleaned[ROOT] if is_flat else cleaned
    return Checked(state, version, tuple(found.notes), found.choices)


def check_same_shape(canary: Checked, stable: Checked) -> None:
    """Whether two programs have the same predictors with as many fields: then the code of one can run the other.

    Raises:
        SignatureError: with every difference.
    """
    ours, theirs = _get_predictors(canary.state), _get_predictors(stable.state)
    found = [f"no predictor {name}, which the stable program has" for name in sorted(set(theirs) - set(ours))]
    found += [f"{name}: the stable program has no such predictor" for name in sorted(set(ours) - set(theirs))]
    for name in sorted(set(ours) & set(theirs)):
        count, expected = (len(state[name]["signature"]["fields"]) for state in (ours, theirs))
        if count != expected:
            found.append(f"{name}: {count} fields, the stable program has {expected}")
    if found:
        raise SignatureError(*found)


def describe(checked: Checked) -> dict[str, Any]:
    """What a program holds, by predictor, for people."""
    return {
        name: {
            "demos": len(state["demos"]),
            "fields": [field["prefix"] for field in state["signature"]["fields"]],
            "instructions": state["signature"]["instructions"],
        }
        for name, state in _get_predictors(checked.state).items()
    }


def _get_predictors(state: dict[str, Any]) -> dict[str, Any]:
    return {ROOT: state} if _is_flat(state) else state


def get_digest(data: bytes) -> str:
    """The sha256 of `data`, 64 hex."""
    return hashlib.sha256(data).hexdigest()


def verify_digest(data: bytes, sha256: str) -> None:
    """Raise `DigestError` unless `data` has that sha256."""
    actual = get_digest(data)
    if actual != sha256.lower():
        raise DigestError(f"the bytes have sha256 {actual}, expected {sha256}")


def _is_flat(state: Mapping[str, object]) -> bool:
    return "signature" in state and "demos" in state


def _parse(data: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8, an object, no duplicate key, no NaN, bounded depth."""
    if len(data) > MAX_BYTES:
        raise RefusedError(f"larger than {MAX_BYTES} bytes")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise RefusedError(f"more than {MAX_VALUES} values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_get_finite,
        )
    except UnicodeDecodeError as exc:
        raise RefusedError("not UTF-8") from exc
    except RecursionError as exc:
        raise RefusedError(f"nested deeper than {MAX_DEPTH}") from exc
    except ValueError as exc:
        raise RefusedError(f"not strict JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise RefusedError("not a JSON object")
    if _is_deeper(value, MAX_DEPTH):
        raise RefusedError(f"nested deeper than {MAX_DEPTH}")
    if rb"\u" in data:
        _check_text(value)
    return value


def _check_text(value: object) -> None:
    """Half of a surrogate pair is JSON, but no request to a model can carry it: every answer would fail."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise RefusedError("not UTF-8: half of a surrogate pair") from exc


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _get_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if depth == 0:
        return True
    items: Iterable[object] = value.values() if isinstance(value, dict) else value
    return any(_is_deeper(item, depth - 1) for item in items)


def _check_metadata(value: object, running: str, found: _Findings) -> str:
    """The artifact's DSPy version."""
    if not isinstance(value, dict) or set(value) != {VERSIONS} or not isinstance(value[VERSIONS], dict):
        found.reasons.append("metadata: must hold dependency_versions and nothing else")
        return ""
    versions: dict[str, object] = value[VERSIONS]
    _refuse_unknown("metadata.dependency_versions", versions, VERSION_KEYS, found)
    for name, version in versions.items():
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            found.reasons.append(f"metadata.dependency_versions.{name}: not a version")
    written = versions.get("dspy")
    if not isinstance(written, str):
        if "dspy" not in versions:
            found.reasons.append("metadata.dependency_versions.dspy: missing")
        return ""
    if written.partition(".")[0] != running.partition(".")[0]:
        found.reasons.append(f"written by dspy {written}, this server runs dspy {running}")
    elif written != running:
        found.notes.append(f"written by dspy {written}, this server runs dspy {running}")
    return written


def _check_names(predictors: Mapping[str, object], shape: Shape | None, found: _Findings) -> None:
    """Exactly the module's predictors: a missing one is another program, an extra one is refused."""
    if shape is None:
        return
    extra = sorted(set(predictors) - set(shape.predictors))
    missing = sorted(set(shape.predictors) - set(predictors))
    if missing:
        found.mismatches.append(f"no state for the module's predictors {', '.join(missing)}")
    for name in extra:
        is_predictor = isinstance(predictors[name], dict) and "signature" in predictors[name]  # type: ignore[operator]  # narrowed by the line itself
        sentence = f"{name}: the module has no such predictor"
        (found.mismatches if is_predictor else found.reasons).append(sentence)


def _check_predictor(
    name: str, value: object, shape: PredictorShape | None, found: _Findings
) -> dict[str, Any]:
    if not isinstance(value, dict):
        found.reasons.append(f"{name}: not a predictor's state")
        return {}
    _refuse_unknown(name, value, PREDICTOR_KEYS, found)
    found.reasons.extend(f"{name}.{key}: missing" for key in sorted(REQUIRED_KEYS - set(value)))
    for key in ("traces", "train"):
        if not isinstance(value.get(key, []), list):
            found.reasons.append(f"{name}.{key}: not a list")
    if value.get("lm") is not None:
        _check_lm(name, value["lm"], found)
    if "signature" in value:
        _check_signature(f"{name}.signature", value["signature"], shape, found)
    _check_demos(f"{name}.demos", value.get("demos", []), shape, found)
    _check_decisions(f"{name}.fields", value.get("fields", {}), shape, found)
    return {**value, "traces": [], "train": [], "lm": None}


def _check_lm(name: str, value: object, found: _Findings) -> None:
    if found.models is None:
        found.notes.append(f"{name}.lm: dropped, the deployment's spec.lm answers")
        return
    choice = check_choice(f"{name}.lm", value, found.models)
    if isinstance(choice, LmChoice):
        found.choices[name] = choice
    else:
        found.reasons.extend(choice)


def _check_signature(path: str, value: object, shape: PredictorShape | None, found: _Findings) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("fields"), list):
        found.reasons.append(f"{path}: must hold instructions and a list of fields")
        return
    _refuse_unknown(path, value, SIGNATURE_KEYS, found)
    if not isinstance(value.get("instructions"), str):
        found.reasons.append(f"{path}.instructions: not a string")
    items: list[Any] = value["fields"]
    valid = 0
    for index, item in enumerate(items):
        if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in FIELD_KEYS):
            found.reasons.append(f"{path}.fields[{index}]: must hold prefix and description, strings")
            continue
        _refuse_unknown(f"{path}.fields[{index}]", item, FIELD_KEYS, found)
        valid += 1
    if shape is not None and valid == len(items):
        _compare_fields(path, items, shape, found)


def _compare_fields(path: str, items: list[Any], shape: PredictorShape, found: _Findings) -> None:
    """DSPy zips saved fields over the module's by position: another count or order would mix them up in silence."""
    if len(items) != len(shape.fields):
        names = ", ".join(shape.fields)
        found.mismatches.append(f"{path}: {len(items)} fields, the module has {len(shape.fields)}: {names}")
        return
    columns = zip(items, shape.fields, shape.prefixes, shape.descriptions, strict=True)
    for index, (item, name, prefix, description) in enumerate(columns):
        default = _DEFAULT_DESCRIPTION.fullmatch(item["description"])
        if default is not None and default[1] != name and item["description"] != description:
            found.mismatches.append(
                f"{path}.fields[{index}]: is {default[1]!r}, the module has {name!r} there"
            )
        elif item["prefix"] != prefix and item["prefix"] in shape.prefixes:
            found.mismatches.append(
                f"{path}.fields[{index}]: prefix {item['prefix']!r} belongs to another field"
            )
        elif item["prefix"] != prefix:
            found.notes.append(f"{path}.fields[{index}]: new prefix {item['prefix']!r}")


def _check_demos(path: str, value: object, shape: PredictorShape | None, found: _Findings) -> None:
    if not isinstance(value, list):
        found.reasons.append(f"{path}: not a list")
        return
    if len(value) > MAX_DEMOS:
        found.reasons.append(f"{path}: more than {MAX_DEMOS}")
    for index, demo in enumerate(value):
        if not isinstance(demo, dict):
            found.reasons.append(f"{path}[{index}]: not an object")
        elif shape is not None and (unknown := sorted(set(demo) - {*shape.fields, AUGMENTED})):
            # Of another program, if the fields already say so; else something that must not be in there.
            sentences = found.mismatches or found.reasons
            sentences.extend(f"{path}[{index}]: unknown key {key!r}" for key in unknown)


def _check_decisions(path: str, value: object, shape: PredictorShape | None, found: _Findings) -> None:
    """DSPy's thresholds and weights of decision outputs; their values are checked by DSPy itself."""
    if not isinstance(value, dict):
        found.reasons.append(f"{path}: not an object")
        return
    if shape is not None:
        _refuse_unknown(path, value, shape.decisions, found)
    for name, config in value.items():
        if not isinstance(config, dict):
            found.reasons.append(f"{path}.{name}: not an object")
        else:
            _refuse_unknown(f"{path}.{name}", config, DECISION_KEYS, found)


def _refuse_unknown(path: str, value: Mapping[str, object], known: frozenset[str], found: _Findings) -> None:
    found.reasons.extend(f"{path}: unknown key {key!r}" for key in sorted(set(value) - known))
