"""Every method, backend and type, in the uses that a model meets, against the dense formula in float32."""

from benchmarks.gpu import uses
from benchmarks.gpu.comparison import Comparison, backends
from benchmarks.gpu.setting import REHEARSED, TYPES
from tests.helpers import tiny

USES = (uses.prefill, uses.decode, uses.padded, uses.generate, uses.generate_static, uses.autocast)
SHAPE_OF = {"bfloat16": "head_dim_128", "float16": "head_dim_64", "float32": "head_dim_64"}
LONG = ("self_extend", "dpe_top_k", "rerope", "string")
"""Cases with a window that is wider than a band's chunk, in the long shape."""
LENGTHS = {"tiny": 150, "head_dim_64": 450, "head_dim_128": 450, "long": 3000}


def cells(setting):
    """A case in a type, and the shape: first one case for each way in which a method can meet the model."""

    def of(names, *types):
        return [f"{name} {dtype} {setting.pick(SHAPE_OF[dtype], 'tiny')}" for dtype in types for name in names]

    long = setting.pick([f"{name} bfloat16 long" for name in LONG], [])
    others = setting.pick([name for name in tiny.CASES if name not in REHEARSED], [])
    return of(REHEARSED, TYPES[0]) + long + of(REHEARSED, *TYPES[1:]) + of(others, *TYPES)


def run(cell, setting):
    """All uses of a case, by each backend."""
    case, dtype, shape = cell.name.split()
    comparison = Comparison(cell, case, shape, dtype, LENGTHS[shape])
    for use in USES:
        if (use is uses.autocast and dtype == "float32") or (shape == "long" and use not in USES[:2]):
            continue
        for attn in backends(dtype):
            comparison.judge(use, attn)
