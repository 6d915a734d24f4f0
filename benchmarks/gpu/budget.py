"""How far a result may lie from the truth: as far as the plain formula in the same type, and half as much again."""

from dataclasses import dataclass

ALLOWANCE = 1.5
WORST_ALLOWANCE = 3.0
"""Of the worst row, which is a matter of chance; a row that is wrong is off by a hundred times as much."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-3, "float16": 1e-3}
"""What is allowed beside that, as a share of the truth's root mean square."""


@dataclass(frozen=True)
class Error:
    """Absolute errors against the truth.

    Attributes:
        mean: of all numbers.
        worst: of the row that is farthest off, so that one bad row is not lost among many good ones.
        scale: root mean square of the truth.
    """

    mean: float
    worst: float
    scale: float


def error_of(result, truth):
    """The `Error` of a result [..., rows, columns] on any device."""
    result, truth = result.detach().cpu().double(), truth.detach().cpu().double()
    if result.shape != truth.shape:
        raise ValueError(f"shape {tuple(result.shape)} instead of {tuple(truth.shape)}")
    difference = (result - truth).abs()
    return Error(difference.mean().item(), difference.mean(-1).max().item(), truth.square().mean().sqrt().item())


def judged(error, plain, dtype):
    """Figures of a row: whether an error is within the budget that the plain formula's error gives.

    Args:
        error: of what is judged.
        plain: of the plain formula in the same type.
        dtype: the type's name.
    """
    tolerance = TOLERANCE[dtype] * error.scale
    allowed = ALLOWANCE * plain.mean + tolerance
    worst_allowed = WORST_ALLOWANCE * plain.worst + tolerance
    return {
        # Not a number is never within it.
        "ok": error.mean <= allowed and error.worst <= worst_allowed,
        "error": error.mean,
        "allowed": allowed,
        "worst": error.worst,
        "worst_allowed": worst_allowed,
    }
