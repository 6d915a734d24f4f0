"""What is asked of SmolLM2-135M-Instruct, what is worth most first.

Each job is a piece of one evaluation or calibration, and goes on with what earlier ones wrote: few questions of every
kind come before many of one.
"""

from dataclasses import dataclass, field

PREFIX = "smollm2-135m-"
PRESETS = ("rerope", "bands", "dpe-512", "self_extend", "yarn")
"""Asked first where a question takes long."""
PRESETS += ("profile-tail", "dpe", "local_profile", "lampe", "jet_long", "dca", "gali", "ntk", "dprope", "dynamic_ntk")
PRESETS += ("string", "linear")
FEW = 5
BEYOND, ALL = ("12k", "16k"), ("4k", "8k", "12k", "16k")
RULER = ("16k", "8k", "4k")


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        task: of `ropext eval`, or `calibrate`.
        lengths: tokens.
        samples: how many at each length, at most.
        seconds: how long it may take, where all may take as long as `QUALITY` says.
        presets: how many, from the first; None: all, and those that were found here.
        method: to be calibrated.
        settings: the task's own.
    """

    task: str
    lengths: tuple
    samples: int | None
    seconds: int
    presets: int | None = None
    method: str = ""
    settings: dict = field(default_factory=dict)

    @property
    def name(self):
        """The name of its cell."""
        whose = {None: "all presets", 0: "base"}.get(self.presets, f"{self.presets} presets")
        count = "as much as the text fills" if self.samples is None else f"{self.samples} samples"
        what = f"calibrate {self.method}" if self.method else f"{self.task}, {whose}"
        return f"{what}, {' '.join(self.lengths)}, {count}"


KEYS = {"questions": 8}
FULL = (
    Job("passkey", BEYOND, 1, 90),
    Job("mixed", BEYOND, 2, 150, settings=KEYS),
    Job("niah", BEYOND, 6, 120),
    Job("ppl", ALL, None, 60),
    Job("ruler", RULER[:1], 1, 150, presets=FEW),
    Job("calibrate", ("16k",), 4, 300, method="profile", settings=KEYS),
    Job("calibrate", ("16k",), 4, 300, method="bands", settings=KEYS),
    Job("mixed", BEYOND, 4, 200, settings=KEYS),
    Job("passkey", ALL, 10, 300),
    Job("niah", ALL, 25, 300),
    Job("mixed", ALL, 13, 300, settings=KEYS),
    *(Job("ruler", RULER, samples, 300) for samples in (1, 10, 100)),
)
"""At the end 100 questions a cell: passkeys at ten depths, four needles in each of 25 texts, eight questions of each
kind in each of 13, and 100 examples of each of RULER's tasks."""

REHEARSED = (
    Job("passkey", ("700",), 1, 60, settings={"depths": 2}),
    Job("mixed", ("1200",), 1, 60, settings={"questions": 1}),
    Job("niah", ("900",), 1, 60, settings={"needles": 2}),
    Job("ppl", ("200",), None, 60),
    Job("ruler", ("600",), 1, 60, presets=1, settings={"tasks": ("fwe", "qa_1")}),
    Job("calibrate", ("1000",), 1, 60, method="profile", settings={"questions": 1, "groups": 0}),
    Job("mixed", ("1200",), 2, 60, settings={"questions": 1}),
)
"""Of a tiny random model, a character of whose text is a token."""
