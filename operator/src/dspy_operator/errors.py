"""The errors that cross a module's border; adapters raise them, the worklist decides whether to try again.

::

    OperatorError
    ├── Transient        the world may be better soon: try again (after `retry_after` if it says so)
    │   └── LostAnswer   a write whose answer never came: it may still land, so raise the epoch first
    ├── Conflict         someone else wrote first: drop every decision and read again
    └── Permanent        trying again without a change is useless
        └── InvalidSpec  the user's resource says something that cannot be done
"""


class OperatorError(Exception):
    """The root: nothing else that the operator raises on purpose."""


class Transient(OperatorError):  # noqa: N818  the name says what to do, as "error" would not
    """The world may be better soon: try again with backoff.

    Attributes:
        retry_after: seconds that the server asks us to wait, if it said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LostAnswer(Transient):
    """A write whose answer is lost (timeout, reset, 5xx): it may still land later (reliability W8)."""


class Conflict(OperatorError):  # noqa: N818  as above
    """Someone else wrote first (409, 404, or 422 about a precondition): drop the decision, read again."""


class Permanent(OperatorError):  # noqa: N818  as above
    """Trying again without a change is useless.

    Attributes:
        code: the HTTP status that said so, 0 if none did.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class InvalidSpec(Permanent):
    """A field of the user's resource cannot be done as written.

    Attributes:
        field: the path as the user writes it, such as `spec.strategy.canary.steps[1].weight`.
        sentence: what is wrong and what would do, for people.
    """

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field}: {sentence}")
        self.field = field
        self.sentence = sentence
