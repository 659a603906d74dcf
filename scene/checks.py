"""Shape checks that name the field, what was expected and what came."""

from __future__ import annotations

from torch import Tensor


def check_shape(
    owner: str, field: str, tensor: object, trailing: tuple[int | str, ...]
) -> tuple[int, ...]:
    """Checks the trailing dimensions of a field and returns its leading (batch) dimensions.

    ``trailing`` holds sizes, or names for sizes that may be anything.
    Raises ValueError that names the field.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{owner}.{field}: expected a tensor, got {type(tensor).__name__}")
    shape = tuple(tensor.shape)
    lead = len(shape) - len(trailing)
    fits = lead >= 0
    # a plain loop: this is called dozens of times for every frame
    for want, got in zip(trailing, shape[lead:]):
        if want != got and isinstance(want, int):
            fits = False
    if not fits:
        wanted = ", ".join(["*b", *map(str, trailing)])
        raise ValueError(f"{owner}.{field}: expected shape [{wanted}], got {list(shape)}")
    return shape[:lead]


def check_same_batch(owner: str, batches: dict[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless all fields have the same leading dimensions."""
    if len(set(batches.values())) > 1:
        listing = ", ".join(f"{name} {list(batch)}" for name, batch in batches.items())
        raise ValueError(f"{owner}: the batch dimensions of the fields differ: {listing}")
