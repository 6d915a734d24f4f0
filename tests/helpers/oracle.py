"""The oracle of a case: its method as the paper writes it."""

import inspect
from importlib import import_module

import numpy as np

from tests.helpers import tiny


def oracle(name, length):
    """The naive logit of a case, for an input of `length` tokens."""
    case = tiny.CASES[name]
    parameters = {key: value for key, value in case.parameters.items() if key not in ("top_k", "noise")}
    if case.tables:
        parameters["selected"] = tiny.SELECTED
    pair_logit = import_module(f"tests.reference.{case.method}").pair_logit
    facts = {"length": length, "initial_window": tiny.INITIAL_WINDOW}
    taken = inspect.signature(pair_logit).parameters.keys() & facts
    return pair_logit(np.array(case.inv_freq), **parameters, **{key: facts[key] for key in taken})
