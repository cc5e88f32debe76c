"""The spec reference, docs/spec.md, written from the schema itself."""

import inspect
import json
from typing import Any

from models.spec.diffusion import DiffusionSpec
from models.spec.gan import GanSpec

_INTRODUCTION = """# Job spec reference

Written from the schema by `python -m models reference`; a test keeps the two equal.

A job is posted as a preset with overrides, or with everything spelled out. Overrides merge into the preset as
RFC 7396 says (a `null` removes a member, which then has its default), with two exceptions: an object whose
`kind` changes is replaced whole, and one form of a choice (`budget.steps`) removes the other
(`budget.images`). Unknown fields are refused. The job's own `spec` holds every default and every derived
value written out: posted again it repeats the run, on a CPU to the last bit.

`images` counts real images shown to the trained network (the discriminator of a GAN); a `step` is one update
of it.
"""


def reference() -> str:
    """The page, as Markdown."""
    sections: dict[str, str] = {}
    for family in (GanSpec, DiffusionSpec):
        schema = family.model_json_schema()
        title = f"Family `{family.model_fields['family'].default}`"
        sections[title] = _section(title, schema)
        for name, definition in schema.get("$defs", {}).items():
            sections.setdefault(name, _section(f"`{name}`", definition))
    return _INTRODUCTION + "\n" + "\n".join(sections.values())


def _section(title: str, schema: dict[str, Any]) -> str:
    lines = [f"## {title}", "", inspect.cleandoc(schema.get("description", "")), ""]
    if "enum" in schema:
        values = ", ".join(f"`{value}`" for value in schema["enum"])
        return "\n".join([*lines, f"One of {values}.", ""])
    lines += ["| field | type | default | what |", "|---|---|---|---|"]
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else _default(field)
        cells = (f"`{name}`", _type(field), default, _escaped(field.get("description", "")))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(option) for option in options)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "prefixItems" in schema:
        items = [_type(item) for item in schema["prefixItems"]]
        each = items[0] if len(set(items)) == 1 else ", then ".join(items)
        return f"list of {len(items)}: {each}"
    if schema.get("type") == "array":
        return f"list{_length(schema)} {_type(schema['items'])}"
    return f"{schema.get('type', 'object')}{_range(schema)}"


def _range(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {_number(schema[key])}" for key, sign in signs.items() if key in schema]
    if "maxLength" in schema:
        bounds.append(f"at most {schema['maxLength']} characters")
    return f" {', '.join(bounds)}" if bounds else ""


def _number(value: float) -> str:
    return f"{int(value) if value == int(value) else value:,}"


def _length(schema: dict[str, Any]) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if most is None:
        return " of"
    return f" of {least} to {most}" if least else f" of at most {most}"


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return "`{}`" if "additionalProperties" in schema else "its fields' own"
    value = schema["default"]
    if isinstance(value, dict):
        value = {name: inner for name, inner in value.items() if inner is not None}
    return "left out" if value is None else f"`{_escaped(json.dumps(value))}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
