"""Random edits of generated projects, a short run; ``mutations.py`` runs as many as wanted."""

import pytest

from pytest_ductaflow import execution, freshness

from . import mutations


def test_nothing_that_is_up_to_date_differs_from_a_forced_run() -> None:
    mutations.mutate(1, steps=8)


def test_the_comparison_finds_what_is_falsely_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "why_stale", lambda *_: [])
    with pytest.raises(mutations.FalselyFresh, match="edits:"):
        mutations.mutate(3, steps=20)


def test_the_comparison_finds_what_runs_needlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "up_to_date", lambda _: (None, ["no reason"]))
    monkeypatch.setattr(mutations, "EDITS", mutations.COSMETIC)
    with pytest.raises(mutations.Needless, match="no reason"):
        mutations.mutate(4, steps=2)
