"""What FlashVSR's API says of its own form, so that a page can draw it. Limits and defaults are TaskSpec's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from upres.tasks import FLASHVSR_API, TaskSpec

Number = float | int
KINDS: dict[str, Literal["number", "boolean"]] = {"number": "number", "integer": "number", "boolean": "boolean"}


class Choice(BaseModel):
    label: str
    value: Number
    description: str


class Field(BaseModel):
    name: str
    label: str
    description: str
    field_type: Literal["number", "boolean"]
    min: Number | None
    max: Number | None
    step: Number | None
    required: bool
    default: Number | bool
    recommended: list[Choice]
    ui_group: Literal["preprocess", "advanced", "other"]


class Preset(BaseModel):
    key: str
    label: str
    description: str
    preprocess_width: int
    scale: float


class ParameterSchema(BaseModel):
    fields: list[Field]
    presets: list[Preset]


def limits(name: str) -> dict[str, Any]:
    """The JSON schema of one of TaskSpec's fields, with the default it has in FlashVSR's API."""
    given = TaskSpec.model_json_schema()["properties"][name]
    typed = next((part for part in given.get("anyOf", ()) if part["type"] != "null"), given)
    return {**typed, "default": FLASHVSR_API.get(name, given["default"])}


def _field(
    name: str, label: str, text: str, group: Literal["preprocess", "advanced", "other"], *, step: Number | None = None,
    recommended: tuple[Choice, ...] = (),
) -> Field:  # fmt: skip
    its = limits(name)
    return Field(name=name, label=label, description=text, field_type=KINDS[its["type"]], min=its.get("minimum"),
                 max=its.get("maximum"), step=step, required=False, default=its["default"],
                 recommended=list(recommended), ui_group=group)  # fmt: skip


def _width(pixels: int) -> Choice:
    scale = FLASHVSR_API["scale"]
    assert isinstance(scale, float)
    return Choice(label=f"{pixels}", value=pixels, description=f"{round(pixels * scale)} pixels wide at {scale:g}x")


def parameter_schema() -> ParameterSchema:
    return ParameterSchema(fields=[
        _field("preprocess_width", "Input width", "The input is brought to this width before it is restored, in "
               "pixels; the height follows. Smaller is faster.", "preprocess", step=2,
               recommended=tuple(map(_width, (640, 768, 896, 960, 1024, 1152, 1280)))),
        _field("scale", "Scale", "How many times as wide as the input width the result is.", "preprocess", step=0.1),
        _field("sparse_ratio", "Sparse ratio", "How much of the picture each part of it attends to.", "advanced",
               step=0.1, recommended=(Choice(label="1.5", value=1.5, description="faster"),
                                      Choice(label="2.0", value=2.0, description="steadier"))),
        _field("local_range", "Local range", "How far from itself a part of the picture may look.", "advanced", step=2,
               recommended=(Choice(label="9", value=9, description="sharper"),
                            Choice(label="11", value=11, description="steadier"))),
        _field("seed", "Seed", "The same seed gives the same result; 0 is a seed like any other.", "advanced", step=1),
        _field("preserve_aspect_ratio", "Keep the whole picture", "Off: what is beyond multiples of 128 pixels is cut "
               "off. On: nothing is, and the result is exactly scale times the input width.", "other"),
    ], presets=[
        Preset(key="1080p", label="1080p", description="1920 pixels wide", preprocess_width=960, scale=2.0),
        Preset(key="2k", label="2K", description="2304 pixels wide", preprocess_width=1152, scale=2.0),
        Preset(key="fast", label="Fast", description="1536 pixels wide", preprocess_width=768, scale=2.0),
    ])  # fmt: skip
