"""What a step runs on: a GPU at full size, or the CPU at tiny sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.gpu.subjects import Shape

TYPES = ("bfloat16", "float16", "float32")
REHEARSED = ("original", "self_extend", "dpe_top_k", "gali", "dca_temperature", "jet_long", "dynamic_ntk", "yarn")
"""Cases of the rehearsal: one for each way in which a method can meet the model."""

TINY = Shape(2, 4, 2, head_dim=16, hidden=48, intermediate=64, vocabulary=128, trained=64)
SHAPES = {
    "tiny": TINY,
    "head_dim_64": Shape(2, 8, 2, head_dim=64, hidden=256, intermediate=512, vocabulary=512, trained=192),
    "head_dim_128": Shape(2, 8, 2, head_dim=128, hidden=256, intermediate=512, vocabulary=512, trained=192),
    # Windows of more than 1,024 tokens, which a band takes in several chunks.
    "long": Shape(1, 2, 1, head_dim=64, hidden=128, intermediate=256, vocabulary=512, trained=5120),
    "llama3_8b": Shape(
        32,
        32,
        8,
        head_dim=128,
        hidden=4096,
        intermediate=14336,
        vocabulary=128256,
        trained=8192,
        rope_theta=500000.0,
    ),
}


@dataclass(frozen=True)
class Setting:
    """Where a step runs.

    Attributes:
        device: `cuda`, or `cpu` for the rehearsal.
        options: what the user chose.
    """

    device: str
    options: Mapping = field(default_factory=dict)

    @property
    def rehearsal(self):
        """Whether all is tiny."""
        return self.device == "cpu"

    def pick(self, full, tiny):
        """The first on a GPU, the second in a rehearsal."""
        return tiny if self.rehearsal else full
