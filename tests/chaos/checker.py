"""Decides from the log of operations alone whether a run kept its promises. Knows no store, no process and no file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

NOTICE_P99_S = 2.0
Event = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Every count but the last five must be 0."""

    lost: int  # acknowledged, and not in the store in the end
    doubled: int  # keys with more than one task, tasks under no key
    unfinished: int  # tasks that reached no end, or an end that nobody caused
    torn: int  # results that are missing, not whole, or not what their last owner published
    strays: int  # files beside the results
    completed_twice: int
    written_by_stale_owners: int  # publications under another token than the last one claimed
    two_owners: int  # claims of a slot by a process that had already been followed by another
    notices: int
    notice_p50_s: float
    notice_p99_s: float
    tasks: int
    most_attempts: int

    @property
    def kept(self) -> bool:
        return not any(self.faults.values()) and self.notice_p99_s <= NOTICE_P99_S

    @property
    def faults(self) -> dict[str, int]:
        return dict(list(asdict(self).items())[:8])

    def __str__(self) -> str:
        counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in self.faults.items())
        return (f"{self.tasks} tasks, {counts}; {self.notices} deaths noticed in {self.notice_p50_s:.2f} s "
                f"(p99 {self.notice_p99_s:.2f} s), attempts at most {self.most_attempts}")  # fmt: skip


def judge(events: Sequence[Event], excused: frozenset[str] = frozenset()) -> Verdict:
    """`excused`: failure codes that the run itself caused, such as disk_full."""
    by_op: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_op[event["op"]].append(event)
    finals = {event["id"]: event for event in by_op["final"]}
    acknowledged = {event["id"] for event in by_op["acknowledged"]}
    keys = Counter(event["key"] for event in finals.values())
    answers: dict[str, set[str]] = defaultdict(set)
    for event in by_op["acknowledged"]:
        answers[event["key"]].add(event["id"])
    sent = {event["key"] for event in by_op["submit"]}
    notices = sorted(event["seconds"] for event in by_op["noticed"])
    return Verdict(
        lost=len(acknowledged - finals.keys()),
        doubled=sum(count > 1 for count in keys.values()) + sum(len(ids) > 1 for ids in answers.values())
        + len(keys.keys() - sent) + len(sent - keys.keys()),
        unfinished=sum(not _ended_well(event, excused) for event in finals.values()),
        torn=sum(not event["whole"] for event in finals.values() if event["state"] == "completed")
        + _unlike_published(by_op["publish"], finals),
        strays=len(by_op["stray"]),
        completed_twice=sum(count > 1 for count in Counter(event["id"] for event in by_op["completed"]).values()),
        written_by_stale_owners=_stale(events), two_owners=_returns(events),
        notices=len(notices), notice_p50_s=_quantile(notices, 0.5), notice_p99_s=_quantile(notices, 0.99),
        tasks=len(finals), most_attempts=max((event["attempt"] for event in by_op["claim"]), default=0),
    )  # fmt: skip


def _ended_well(final: Event, excused: frozenset[str]) -> bool:
    return final["state"] == "completed" or (final["state"] == "failed" and final["code"] in excused)


def _unlike_published(published: Sequence[Event], finals: dict[str, Event]) -> int:
    last = {event["id"]: event["sha"] for event in published}
    return sum(final["state"] == "completed" and last.get(task) != final["sha"] for task, final in finals.items())


def _stale(events: Sequence[Event]) -> int:
    """Claims and publications are logged a moment after they happen, but a token never counts down."""
    highest: Counter[str] = Counter()
    stale = 0
    for event in events:
        if event["op"] in ("claim", "publish", "completed"):
            stale += event["token"] < highest[event["id"]]
            highest[event["id"]] = max(highest[event["id"]], event["token"])
    return stale


def _returns(events: Sequence[Event]) -> int:
    """A slot's claims must be runs of one process after the other: whoever was followed never claims again. A number
    that becomes an owner's once more is another process: systems give them out anew.
    """
    lives: Counter[int] = Counter()
    claimants: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        if event["op"] == "owner":
            lives[event["pid"]] += 1
        elif event["op"] == "claim":
            claimants[event["slot"]].append((event["pid"], lives[event["pid"]]))
    runs = {slot: [who for who, _ in groupby(claims)] for slot, claims in claimants.items()}
    return sum(len(owners) - len(set(owners)) for owners in runs.values())


def _quantile(values: Sequence[float], q: float) -> float:
    return values[min(len(values) - 1, int(q * len(values)))] if values else 0.0
