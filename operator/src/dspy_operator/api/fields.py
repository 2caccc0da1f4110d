"""The field types that the models share: bounded strings, references, and the model that they all extend."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A part of a resource: immutable, camelCase on the wire.

    Unknown fields are dropped: the API server has pruned them already, and a field that a newer version of
    the schema knows must not break this one.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def to_wire(self) -> dict[str, Any]:
        """The part as plain JSON types with the names of the wire; what was not given is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules and the sentences that a user reads when one is broken, for `json_schema_extra`."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


Text = Annotated[str, StringConstraints(max_length=1024)]
"""A sentence for people, in status."""
Word = Annotated[str, StringConstraints(max_length=64)]
"""A CamelCase reason, an action, a phase, a small number written as text."""
Time = AwareDatetime
"""An RFC 3339 time."""

ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
Namespace = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
DataKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Attribute = Annotated[
    str, StringConstraints(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")
]
"""`package.module:Attribute`."""
Sha256 = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-f0-9]{64}$")]
Header = Annotated[str, StringConstraints(max_length=64, pattern=r"^([A-Za-z][-A-Za-z0-9]*)?$")]
RevisionHash = Annotated[str, StringConstraints(max_length=10, pattern=r"^[a-f0-9]{8,10}$")]
Weight = Annotated[int, Field(ge=0, le=100)]


class ObjectRef(Model):
    """An object of the same namespace."""

    name: ObjectName = Field(description="Name of the object, in the namespace of this resource.")


class KeyRef(Model):
    """One key of a ConfigMap or Secret of the same namespace."""

    name: ObjectName = Field(description="Name of the object, in the namespace of this resource.")
    key: DataKey = Field(description="Key in its data.")
