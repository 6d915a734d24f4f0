"""The oracle of a case: its method as the paper writes it."""

import inspect
from importlib import import_module

import numpy as np

from tests.helpers import tiny


def oracle(name, length):
    """The naive logit of a case, for an input of `length` tokens."""
    return of_case(tiny.CASES[name], length)


def of_case(case, length):
    """The naive logit of any case."""
    common = {key: value for key, value in case.parameters.items() if key != "by_layer"}
    others, own = _of_parameters(case, common, length), {}
    for entry in case.parameters.get("by_layer", ()):
        own |= dict.fromkeys(entry["layers"], _of_parameters(case, entry["parameters"], length))
    return lambda layer, *pair: own.get(layer, others)(layer, *pair)


def _of_parameters(case, parameters, length):
    parameters = {key: value for key, value in parameters.items() if key not in ("top_k", "noise")}
    if case.tables:
        parameters["selected"] = tiny.SELECTED
    pair_logit = import_module(f"tests.reference.{case.method}").pair_logit
    facts = {"length": length, "initial_window": tiny.INITIAL_WINDOW}
    taken = inspect.signature(pair_logit).parameters.keys() & facts
    return pair_logit(np.array(case.inv_freq), **parameters, **{key: facts[key] for key in taken})
