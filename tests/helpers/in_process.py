"""The model's process without a process, for tests that run hundreds of models or change what ropext computes."""

import json

from ropext.converter.verify.model_answers import Answers
from ropext.converter.verify.report import Check


class InProcess:
    """As `ModelProcess`: questions and answers are JSON here too. Bounds are those of the test."""

    def __init__(self, checkpoint, bounds):
        self.answers = Answers(_through_json(checkpoint))

    def ask(self, question):
        answer = _through_json(self.answers.answer(_through_json(question)))
        return Check(question["check"], answer["status"], answer["text"], tuple(answer["faults"]))

    def close(self):
        pass


def _through_json(value):
    return json.loads(json.dumps(value))
