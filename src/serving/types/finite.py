"""Numbers that may be missing: what is not finite becomes null, and the schema says so."""

import math
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator


def _null_if_not_finite(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return None if not math.isfinite(number) else value


# JSON has no NaN and no infinity. An answer with one of them in a plain `float` is refused as a defect; in a field of this
# type it is null, and the schema says `number or null`.
FiniteOrNull: TypeAlias = Annotated[float | None, BeforeValidator(_null_if_not_finite)]
