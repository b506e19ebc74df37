"""A sound waiver excuses exactly what it names; an unsound one excuses nothing."""

from dataclasses import replace
from datetime import date

import pytest

from pytest_tenantproof.model import Control, Finding, Outcome, Result, Scope, Severity, Verdict, Waiver, verdict_of
from pytest_tenantproof.waivers import apply_waivers, problems

TODAY = date(2026, 11, 23)
GOOD = Waiver("TP214", "public.legacy_*", "ann", "bob", "gone in January", date(2027, 1, 31), "OPS-1")
KNOWN = {
    "TP214": Control("TP214", "", Severity.CRITICAL, "A1", None, "rls", ""),
    "TP215": Control("TP215", "", Severity.LOW, "A1", None, "rls", ""),
}


def failed(*objects: str, control: str = "TP214") -> Result:
    return Result(control, Outcome.FAILED, findings=tuple(Finding(name, "is wrong") for name in objects))


def waived(result: Result, *waivers: Waiver, today: date = TODAY) -> Waiver | None:
    (found,) = apply_waivers([result], waivers, KNOWN, today)
    assert found.outcome is result.outcome
    return found.waiver


def test_a_waiver_excuses_what_it_names_and_no_more() -> None:
    assert waived(failed("public.legacy_view"), GOOD) == GOOD
    assert waived(failed("public.legacy_view", "public.other"), GOOD) is None
    assert waived(failed("public.legacy_view", control="TP215"), GOOD) is None
    other = replace(GOOD, object="public.other", expires=date(2026, 12, 31))
    assert waived(failed("public.legacy_view", "public.other"), GOOD, other) == other


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.NOT_RUN, Outcome.PASSED, Outcome.NOT_APPLICABLE])
def test_only_failures_are_waived(outcome: Outcome) -> None:
    everything = replace(GOOD, object="*", control="TP215")
    assert waived(Result("TP215", outcome, "reason"), everything) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"control": "TP999"}, "no control"),
        ({"approver": " Ann "}, "own owner"),
        ({"approver": ""}, "lacks"),
        ({"reason": " "}, "lacks"),
        ({"expires": date(2026, 11, 22)}, "expired"),
        ({"expires": date(2027, 12, 1)}, "longer than a year"),
        ({"object": "*"}, "every object"),
        ({"object": "*.*"}, "every object"),
        ({"object": "?*"}, "every object"),
        ({"object": "*[a-z]*"}, "every object"),
        ({"object": "[!0]*"}, "every object"),
        ({"approver": "a\u200bnn"}, "own owner"),
        ({"approver": "\uff21\uff4e\uff4e"}, "own owner"),
    ],
)
def test_an_unsound_waiver_says_why_and_excuses_nothing(change: dict[str, object], said: str) -> None:
    bad = replace(GOOD, **change)  # type: ignore[arg-type]
    assert any(said in problem for problem in problems(bad, KNOWN, TODAY))
    assert waived(failed("public.legacy_view"), bad) is None


def test_it_holds_through_its_last_day_and_covers_all_of_a_minor_control() -> None:
    assert not list(problems(replace(GOOD, expires=TODAY), KNOWN, TODAY))
    assert not list(problems(replace(GOOD, control="TP215", object="*"), KNOWN, TODAY))


def test_a_waived_failure_is_no_pass() -> None:
    (result,) = apply_waivers([failed("public.legacy_view")], [GOOD], KNOWN, TODAY)
    assert verdict_of((result,), Scope(1, 1)) == (Verdict.NOT_PROVEN, 2)
    passed = Result("TP215", Outcome.PASSED)
    assert verdict_of((result, passed), Scope(2, 2)) == (Verdict.PROVEN, 0)
