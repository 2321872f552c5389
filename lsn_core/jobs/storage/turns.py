"""Whose job is begun next."""

from __future__ import annotations

import sqlite3


def fair_order(database: sqlite3.Connection) -> list[str]:
    """Ids of queued jobs: those that had their turn already; then owners in turn, the least recently served first."""
    rows = database.execute("SELECT id, owner, resumed FROM jobs WHERE state = 'queued' ORDER BY queued, id").fetchall()
    order = [row["id"] for row in rows if row["resumed"]]
    waiting: dict[str, list[str]] = {}  # owners in the order of their first job
    for row in rows:
        if not row["resumed"]:
            waiting.setdefault(row["owner"], []).append(row["id"])
    served = {row["owner"]: row["served"] for row in database.execute("SELECT owner, served FROM owners")}
    turn = max(served.values(), default=0)
    while waiting:
        owner = min(waiting, key=lambda name: served.get(name, 0))
        order.append(waiting[owner].pop(0))
        turn += 1
        served[owner] = turn
        if not waiting[owner]:
            del waiting[owner]
    return order


def note_served(database: sqlite3.Connection, job_id: str) -> None:
    """The job's owner has just been served."""
    database.execute(
        "INSERT INTO owners (owner, served) "
        "SELECT owner, (SELECT COALESCE(MAX(served), 0) + 1 FROM owners) FROM jobs WHERE id = ? "
        "ON CONFLICT DO UPDATE SET served = excluded.served",
        (job_id,),
    )
