from __future__ import annotations

import numpy as np

from skipml.bounds.outcome import EVALUATE, SKIP, Method, Outcome, Reason


def outcome_of(decisions: list[int], reasons: list[int]) -> Outcome:
    n = len(decisions)
    return Outcome(
        decision=np.array(decisions, np.int8),
        lower=np.zeros((n, 1)),
        upper=np.ones((n, 1)),
        boxes=np.arange(n),
        method=np.full(n, Method.CROWN, np.int8),
        reason=np.array(reasons, np.int8),
        seconds=0.5,
    )


def test_outcomes_combine() -> None:
    narrow = outcome_of([SKIP, EVALUATE], [Reason.PROVED, Reason.BUDGET])
    wide = narrow.only(np.array([False, True]))
    assert wide.decision.tolist() == [EVALUATE, EVALUATE]
    assert wide.decision.dtype == np.int8
    assert wide.reason.tolist() == [Reason.NOT_TRIED, Reason.BUDGET]
    assert wide.upper[:, 0].tolist() == [np.inf, 1.0]
    assert wide.seconds == 0.5
    assert wide.counts["not_tried"] == 1
    assert wide.counts["budget"] == 1
    both = narrow.combined(Outcome.evaluate_all(2, 2), np.array([SKIP, SKIP]))
    assert both.lower.shape == (2, 3)
    twice = narrow.combined(narrow, narrow.decision)
    assert twice.boxes.tolist() == [0, 2]
    assert twice.seconds == 1.0
    nothing = Outcome.evaluate_all(2, 1)
    assert (nothing.lower == -np.inf).all()
    assert (nothing.upper == np.inf).all()
    assert nothing.decision.tolist() == [EVALUATE, EVALUATE]
    assert both.reason.tolist() == [Reason.PROVED, Reason.PROVED]
    flagged = narrow.replace_decision(np.array([EVALUATE, EVALUATE], np.int8))
    assert flagged.reason.tolist() == [Reason.NULL_OR_NAN, Reason.BUDGET]
