"""What the in-context learner answers: a pure function of the model's name and the messages, nothing else.

It knows only the prompt and answers like the most similar demonstration in it, so that a better compiled
program really scores better. `icl-100` always says what it believes, `icl-NN` gives another option on a fixed
100-NN percent of the inputs, `const` says the first option at once. `icl_lm.py` serves it to OpenAI clients.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTRUCTION_WEIGHT = 0.9
REASONING = "The most similar example decides."

# What a model knows about English without any example: these words say nothing about a topic.
STOP_WORDS = frozenset(
    re.findall(
        r"[a-z]+",
        """
        a about after again all also am an and any are as at be because been before but by can could day did
        do does for from get good had has have hello help here hey hi how i if in is it its just know like
        me my need no not now of on one only or our out please see should since so some still thank thanks
        that the their them then there they this time to today try two up us very want was we were what when
        where which who will with would yesterday you your
        """,
    )
)
MARKER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*", re.MULTILINE)
NOTE = re.compile(r"\{(\w+)\}\s+# note: the value you produce (.*)")
WORD = re.compile(r"[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]|[^\W_\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]+")
TOKEN = re.compile(r"\w+|[^\w\s]")
OBJECTIVE = "your objective is:"
CHAT_REQUEST = "Respond with the corresponding output fields"
JSON_REQUEST = "Respond with a JSON object"
MISSING = "Not supplied for this"


@dataclass(frozen=True)
class Example:
    """One thing the prompt teaches: the words of the inputs, the outputs as text, and how far to trust it."""

    words: frozenset[str]
    outputs: dict[str, str]
    weight: float = 1.0


@dataclass(frozen=True)
class Task:
    """What the last message asks for: fields in order, and whether as a JSON object."""

    inputs: str
    fields: tuple[str, ...]
    as_json: bool


def get_words(text: str) -> frozenset[str]:
    """Words that carry a topic: lower case, without stop words, endings cut, CJK by character."""
    words = (_cut_ending(word) for word in WORD.findall(text.lower()) if word not in STOP_WORDS)
    return frozenset(words)


def _cut_ending(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def count_tokens(text: str) -> int:
    """Words and signs, and 4 for the message around them."""
    return len(TOKEN.findall(text)) + 4


def get_fields(text: str) -> dict[str, str]:
    """Field name to value, from `[[ ## name ## ]]` markers at the start of a line."""
    parts = MARKER.split(text)
    fields = {name: value.strip() for name, value in zip(parts[1::2], parts[2::2], strict=True)}
    return {n: v for n, v in fields.items() if n != "completed" and not v.startswith(MISSING)}


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def get_answer_fields(text: str) -> dict[str, str]:
    """The fields of a demonstration's answer, written with markers or as a JSON object."""
    if not text.lstrip().startswith("{"):
        return get_fields(text)
    with contextlib.suppress(json.JSONDecodeError):
        parsed = json.loads(text)
        return {n: _as_text(v) for n, v in parsed.items() if not _as_text(v).startswith(MISSING)}
    return {}


def find_task(text: str) -> Task | None:
    """Read the last user message; None when it is not one of DSPy's adapters."""
    at = max(text.rfind(CHAT_REQUEST), text.rfind(JSON_REQUEST))
    if at < 0:
        return None
    as_json = text.startswith(JSON_REQUEST, at)
    names = re.findall(r"`(\w+)`" if as_json else r"`\[\[ ## (\w+) ## \]\]`", text[at:])
    fields = tuple(dict.fromkeys(name for name in names if name != "completed"))
    return Task("\n".join(get_fields(text[:at]).values()), fields, as_json)


def get_options(kind: str) -> tuple[str, ...]:
    """The values that a type allows; empty when they cannot be listed."""
    if "one of: " in kind:
        return tuple(o.strip(' ",') for o in kind.split("one of: ", 1)[1].split("; "))
    return ("True", "False") if kind.startswith("must be True or False") else ()


def get_minimum(kind: str) -> str:
    """The smallest value of a type, for a field that nothing is known about."""
    if options := get_options(kind):
        return options[0]
    if "JSON schema" in kind:
        return "[]" if '"array"' in kind.replace("\\", "") else "{}"
    return "0" if "single int" in kind else "0.0" if "single float" in kind else "unknown"


class Lesson:
    """Everything before the last message, read once: types, examples and how much each word tells."""

    def __init__(self, prefix: tuple[tuple[str, str], ...]) -> None:
        system = "\n".join(text for role, text in prefix if role == "system")
        self.kinds = {name: kind.replace('\\"', '"') for name, kind in NOTE.findall(system)}
        self.tokens = sum(count_tokens(text) for _, text in prefix)
        self.examples = [*_list_demos(prefix), *self._list_instructions(system)]
        self.weights = self._weigh_words()
        self.norms = [self._get_norm(e.words) for e in self.examples]
        self.index: dict[str, list[int]] = defaultdict(list)
        for number, example in enumerate(self.examples):
            for word in example.words:
                self.index[word].append(number)

    def _list_instructions(self, system: str) -> Iterator[Example]:
        """Lines `label: words` after the objective, where the label is an option of an output."""
        labels = {o.lower(): (n, o) for n, kind in self.kinds.items() for o in get_options(kind)}
        for line in system.partition(OBJECTIVE)[2].splitlines():
            label, colon, words = line.strip(" -*\t").partition(":")
            if colon and label.strip().lower() in labels:
                name, option = labels[label.strip().lower()]
                yield Example(get_words(words), {name: option}, INSTRUCTION_WEIGHT)

    def get_answer_key(self, example: Example) -> tuple[tuple[str, str], ...]:
        """What an example answers; free text beside listed options is no part of it."""
        chosen = {n: v for n, v in example.outputs.items() if n in self.kinds}
        return tuple(sorted((chosen or example.outputs).items()))

    def _weigh_words(self) -> dict[str, float]:
        answers: dict[str, list[object]] = defaultdict(list)
        for example in self.examples:
            for word in example.words:
                answers[word].append(self.get_answer_key(example))
        labels = max(len({self.get_answer_key(e) for e in self.examples}), 2)
        return {w: self._weigh(found, labels) for w, found in answers.items()}

    def _weigh(self, answers: list[object], labels: int) -> float:
        rarity = math.log((len(self.examples) + 1) / (len(answers) + 0.5))
        if len(answers) == 1:
            return rarity * 0.5
        share = Counter(answers).most_common(1)[0][1] / len(answers)
        return rarity * max(share - 1 / labels, 0.0) / (1 - 1 / labels)

    def _get_norm(self, words: frozenset[str]) -> float:
        # Sorted: the order of a set of strings, and with it the last bit of a sum, differs between processes.
        return math.sqrt(sum(self.weights.get(w, 0.0) ** 2 for w in sorted(words)))

    def find_nearest(self, words: frozenset[str]) -> Example | None:
        """The example with the largest cosine; the first wins ties; None when nothing is in common."""
        dots = [0.0] * len(self.examples)
        for word in sorted(words & self.index.keys()):
            for number in self.index[word]:
                dots[number] += self.weights[word] ** 2
        best, best_score = None, 1e-12
        for example, dot, norm in zip(self.examples, dots, self.norms, strict=True):
            score = example.weight * dot / norm if dot else 0.0
            if score > best_score * (1 + 1e-12):
                best, best_score = example, score
        return best

    def answer(self, inputs: str, fields: tuple[str, ...]) -> dict[str, str]:
        """The outputs that this prompt suggests for these inputs."""
        words = get_words(inputs)
        nearest = self.find_nearest(words)
        if nearest is None and self.examples:
            majority = Counter(map(self.get_answer_key, self.examples)).most_common(1)[0][0]
            nearest = next(e for e in self.examples if self.get_answer_key(e) == majority)
        known = nearest.outputs if nearest else {}
        return {f: known.get(f) or self._guess(f, words) for f in fields}

    def _guess(self, name: str, words: frozenset[str]) -> str:
        if name == "reasoning":
            return REASONING
        kind = self.kinds.get(name, "")
        sharing = (o for o in get_options(kind) if get_words(o) & words)
        return next(sharing, get_minimum(kind))

    def doubt(self, answer: dict[str, str], inputs: str, skill: int) -> dict[str, str]:
        """Another option on a fixed 100-skill percent of the inputs."""
        draw = get_hash("skill", inputs)
        if draw % 100 < skill:
            return answer
        changed = dict(answer)
        for name, value in answer.items():
            others = [o for o in get_options(self.kinds.get(name, "")) if o != value]
            if others:
                changed[name] = others[draw // 100 % len(others)]
        return changed


def _list_demos(prefix: tuple[tuple[str, str], ...]) -> Iterator[Example]:
    for (role, asked), (next_role, answered) in pairwise(prefix):
        if (role, next_role) == ("user", "assistant"):
            outputs = get_answer_fields(answered)
            if outputs:
                yield Example(get_words("\n".join(get_fields(asked).values())), outputs)


@lru_cache(maxsize=256)
def read_lesson(prefix: tuple[tuple[str, str], ...]) -> Lesson:
    """A program sends the same prefix with every request: read it once."""
    return Lesson(prefix)


def get_hash(*parts: str) -> int:
    """A large number that depends on the parts alone, equal on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")


def get_reply(model: str, messages: list[dict[str, Any]]) -> tuple[str, int]:
    """The answer of a model to a chat, and the chat's tokens: the whole learner as one pure function."""
    chat = tuple((str(m.get("role")), _get_content(m.get("content"))) for m in messages)
    last = max((i for i, (role, _) in enumerate(chat) if role == "user"), default=len(chat) - 1)
    lesson, asked = read_lesson(chat[:last]), chat[last][1]
    tokens = lesson.tokens + count_tokens(asked)
    task = find_task(asked)
    if task is None:
        return asked, tokens
    if model == "const":
        answer = {f: get_minimum(lesson.kinds.get(f, "")) for f in task.fields}
    else:
        answer = lesson.answer(task.inputs, task.fields)
        answer = lesson.doubt(answer, task.inputs, int(model.removeprefix("icl-")))
    return _render(answer, lesson.kinds, as_json=task.as_json), tokens


def _get_content(content: object) -> str:
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return "".join(str(part.get("text", "")) for part in parts)


def _render(answer: dict[str, str], kinds: dict[str, str], *, as_json: bool) -> str:
    if not as_json:
        return "".join(f"[[ ## {f} ## ]]\n{v}\n\n" for f, v in answer.items()) + "[[ ## completed ## ]]"
    typed: dict[str, Any] = dict(answer)
    for name, value in answer.items():
        if name in kinds and "one of: " not in kinds[name]:
            with contextlib.suppress(json.JSONDecodeError):
                typed[name] = json.loads(value.lower() if value in {"True", "False"} else value)
    return json.dumps(typed, ensure_ascii=False)
