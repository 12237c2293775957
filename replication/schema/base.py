"""What every mapping of ``paper_configs/*.yaml`` has in common: unknown keys raise an error, and values are not converted."""

import difflib
import reprlib
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scale = Literal["smoke", "reduced", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)

NAME = r"^[a-z][a-z0-9_]*$"  # of what becomes a folder, a target or an argument of a command
Name = Annotated[str, Field(pattern=NAME, max_length=100)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A mapping of the configuration: unknown keys raise an error that names the allowed ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"is {reprlib.repr(value)}, but a mapping with the keys {', '.join(cls.model_fields)} is needed")
        for key in value:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, 1)
                hint = f" (did you mean '{near[0]}'?)" if near else ""
                raise ValueError(f"has the unknown key '{key}'{hint}; allowed: {', '.join(cls.model_fields)}")
        return value
