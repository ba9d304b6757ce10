"""Tables of windows, sizes, padding and timesteps: integers exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from upres.models.seedvr2.blend import fade_out
from upres.models.seedvr2.fill import extended, on_grid
from upres.models.seedvr2.sampler import shifted_timestep
from upres.models.seedvr2.spans import window_spans
from upres.restore.plan import Size, enlargement

from .lead_in import preceded
from .recording import Check, NotUnderstood, Table

Row = Mapping[str, Any]
TIMESTEP_TOLERANCE, WEIGHT_TOLERANCE = 1e-6, 1e-6


def check(table: Table) -> list[Check]:
    content = table.content
    if "pad" in content:
        return [_wrong_rows("filled windows", content["pad"], _filled), _weights(content["blend_prev_weight"])]
    rows = content.get("rows", [])
    if rows and "size_tokens" in rows[0]:
        return [_wrong_rows("windows", rows, _windows)]
    if rows and "padded16" in rows[0]:
        return [_wrong_rows("sizes", rows, _sizes)]
    if rows and "latent_shape_THW" in rows[0]:
        errors = [abs(shifted_timestep(row["t"], tuple(row["latent_shape_THW"])) - row["out"]) / max(row["out"], 1e-9)
                  for row in rows]  # fmt: skip
        return [Check(f"{len(rows)} timesteps, relative", max(errors), TIMESTEP_TOLERANCE)]
    raise NotUnderstood(f"no table of a kind we know: {content.get('doc', '')[:60]}")


def _wrong_rows(what: str, rows: list[Row], right: Callable[[Row], bool]) -> Check:
    return Check(f"wrong rows of {len(rows)} {what}", sum(not right(row) for row in rows), 0)


def _filled(row: Row) -> bool:
    frames, count = row["t"], row["count"]
    if row["prepend"]:
        return preceded(frames, count) == row["frames"]
    return extended(frames, frames + count if count else on_grid(frames)) == row["frames"]


def _weights(recorded: Mapping[str, list[float]]) -> Check:
    errors = [abs(ours - theirs) for frames, weights in recorded.items()
              for ours, theirs in zip(fade_out(int(frames)), weights, strict=True)]  # fmt: skip
    return Check("weights of a cross-fade", max(errors), WEIGHT_TOLERANCE)


def _windows(row: Row) -> bool:
    grid = tuple(row["size_tokens"])
    return all(
        [[*a, *b, *c] for c in w for b in h for a in t] == row[method]
        for method, shifted in (("720pwin_by_size_bysize", False), ("720pswin_by_size_bysize", True))
        for t, h, w in [window_spans(grid, shifted)]  # type: ignore[arg-type]
    )


def _sizes(row: Row) -> bool:
    size = enlargement(Size(row["h"], row["w"]), row["resolution"], row["max_resolution"])[-1]
    ours = (size, size.even(), size.padded(16))
    return all(s == Size(*row[name]) for s, name in zip(ours, ("resized", "true_dims_even", "padded16"), strict=True))
