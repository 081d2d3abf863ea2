"""Layer descriptions as JSON and TOML, there and back (clauses DESC)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from seqcore.errors import SpecError
from seqcore.spec import initializers, layers
from seqcore.spec.foreign import explain_unknown
from seqcore.spec.layers import AnyLayer


def to_data(layer: AnyLayer) -> dict[str, Any]:
    """Return the description as plain dicts, lists, strings and numbers; absent means None."""
    data: dict[str, Any] = _without_none(msgspec.to_builtins(layer))
    return data


def from_data(data: Any, subject: str = "layer description") -> AnyLayer:
    """Return the layer that plain data describes; defaults may be left out.

    Raises:
        SpecError: if it describes no layer, with the place in the data.
    """
    try:
        layer: AnyLayer = msgspec.convert(data, AnyLayer)
    except msgspec.ValidationError as error:
        raise SpecError(f"{subject}: {_explain(str(error), data)}") from None
    return layer


def to_json(layer: AnyLayer) -> str:
    """Return the description as JSON."""
    return msgspec.json.format(msgspec.json.encode(to_data(layer)), indent=2).decode()


def from_json(text: str | bytes) -> AnyLayer:
    """Return the layer described by a JSON text.

    Raises:
        SpecError: if the text is not JSON or describes no layer.
    """
    try:
        data = msgspec.json.decode(text)
    except (TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"layer description: not valid JSON: {error}") from None
    return from_data(data)


def to_toml(layer: AnyLayer) -> str:
    """Return the description as TOML."""
    import tomli_w

    return tomli_w.dumps(to_data(layer))


def from_toml(text: str) -> AnyLayer:
    """Return the layer described by a TOML text.

    Raises:
        SpecError: if the text is not TOML or describes no layer.
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except (AttributeError, TypeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"layer description: not valid TOML: {error}") from None
    return from_data(data)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a layer description, for editors and other languages."""
    return msgspec.json.schema(AnyLayer)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


_UNKNOWN_FIELD = re.compile(
    r"Object contains unknown field `(?P<field>.*?)`(?: - at `\$(?P<at>.*?)`)?$"
)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def _explain(message: str, data: Any) -> str:
    """Return msgspec's message, with a suggestion where a field is unknown."""
    found = _UNKNOWN_FIELD.match(message)
    if found is None:
        return message.replace("`$`", "the top level").replace("`$.", "`")
    for name, index in _STEP.findall(found["at"] or ""):
        data = data[name] if name else data[int(index)]
    name = str(data.get("type"))
    described = getattr(layers, name, None) or initializers.BY_NAME.get(name)
    fields = getattr(described, "__struct_fields__", ())
    place = (found["at"] or "").lstrip(".") or "the top level"
    return f"at {place}: {explain_unknown(str(data.get('type')), found['field'], fields)}"
