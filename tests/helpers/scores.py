"""Scores of candidates that nobody has to measure."""

import random


def scores_of(value, noise=0.0, questions=8):
    """A candidate's scores: its value, and what is easy or hard about each question, the same for all candidates."""

    def scores(candidate, prompt):
        asked.append((candidate, prompt))
        easy = random.Random(prompt)
        own = random.Random(f"{candidate} {prompt}")
        return [value(candidate) + easy.gauss(0, 3) + own.gauss(0, noise) for _ in range(questions)]

    asked = []
    return scores, asked
