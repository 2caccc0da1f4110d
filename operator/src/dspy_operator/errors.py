"""The errors that cross a module's border; adapters raise them, the worklist decides whether to try again.

::

    OperatorError
    ├── Transient        the world may be better soon: try again with backoff
    │   └── Conflict     someone else wrote first: read everything again
    └── Permanent        trying again without a change is useless
        └── InvalidSpec  the user's resource says something that cannot be done
"""


class OperatorError(Exception):
    """The root: nothing else that the operator raises on purpose."""


class Transient(OperatorError):  # noqa: N818  the name says what to do, as "error" would not
    """The world may be better soon: try again with backoff."""


class Conflict(Transient):
    """Someone else wrote first (404, 409 or 422 under a precondition): drop the decision, read again."""


class Permanent(OperatorError):  # noqa: N818  as above
    """Trying again without a change is useless."""


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
