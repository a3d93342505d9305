"""Injects faults of a campaign on the workers of a cluster. Each worker opens the campaign once.

settings, indices ─► jobs of some faults ─► outcomes, in any order
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lutern.measure.cluster import Job, Workers
from lutern.measure.inject.campaign import Campaign, Outcome, Settings
from lutern.measure.inject.campaigns import campaign_of, open_campaign
from lutern.model_ref.errors import LuternError
from lutern.sim.board import simulated
from lutern.sim.verilate import verilate

JOBS_A_WORKER = 8
"""Number of jobs for each worker. With several jobs, a lost worker loses little work, and all workers end at about the
same time.
"""
MOST_FAULTS = 64
_opened = threading.local()


def spread_faults(settings: Settings, about: str, indices: Sequence[int], crew: Workers) -> Iterator[Outcome]:
    """Yield the outcomes of faults. ``about`` is the digest of everything on which they depend."""
    size = max(1, min(MOST_FAULTS, len(indices) // (JOBS_A_WORKER * max(1, crew.count))))
    shared = crew.share(f"campaign-{about}", settings)
    parts = [tuple(indices[first : first + size]) for first in range(0, len(indices), size)]
    jobs = [Job(f"faults-{about}-{'-'.join(map(str, part))}", strike, (about, shared, part)) for part in parts]
    for _, result in crew.each(jobs):
        if isinstance(result, LuternError):
            raise result
        yield from result


def strike(about: str, settings: Settings, indices: Sequence[int]) -> list[Outcome]:
    """Return the outcomes of some faults. This runs on a worker."""
    campaign = _campaign(about, settings)
    return [campaign.outcome(index) for index in indices]


def _campaign(about: str, settings: Settings) -> Campaign:
    """Return the open campaign of this worker, and compile its board if this worker has none."""
    if getattr(_opened, "about", None) != about:
        if not settings.library.exists():
            needs_upsets = campaign_of(settings.campaign, settings.config).needs_upsets
            settings = replace(settings, library=verilate(simulated(settings.config), upsets=needs_upsets))
        _opened.campaign, _opened.about = open_campaign(settings), about
    found: Campaign = _opened.campaign
    return found


__all__ = ["spread_faults", "strike"]
