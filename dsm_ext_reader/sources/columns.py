"""Which columns of a table hold its pictures and their keys."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as is_type

# The names that people give to the column, the most certain first.
PICTURES = (
    "image",
    "bytes",
    "image_bytes",
    "img",
    "img_bytes",
    "picture",
    "photo",
    "jpg",
    "jpeg",
    "png",
) + ("webp", "content", "image_content", "data", "image_data", "binary")
PATHS = (
    ("image_path", "img_path", "path", "filepath", "file_path", "image_file", "file", "filename")
    + ("file_name", "image_filename", "image", "img", "image_url", "img_url", "url", "uri")
    + ("image_uri", "location")
)


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Attributes:
        picture: encoded bytes, a struct with a field of them named "bytes", or paths.
        paths: ``picture`` holds paths or URLs.
        key: the keys. None: the paths, or the rows' numbers where there are bytes.
    """

    picture: str
    paths: bool
    key: str | None

    def names(self) -> list[str]:
        """The names of the columns, each once."""
        return list(dict.fromkeys(name for name in (self.picture, self.key) if name))


def choose(schema: pa.Schema, picture: str | None, key: str | None, table: str) -> Columns:
    """The columns that the user named, or those whose types and names tell that they are meant.

    Args:
        schema: that of the table.
        picture: the name of the column of bytes or paths. None: it is guessed. A column of bytes
            goes before one of paths, and a known name before the only column of bytes.
        key: the name of the column of keys, if there is one.
        table: what error messages call the table.

    Raises:
        ValueError: a column is missing or has another type, or the guess is not clear.
    """
    if key is not None:
        kind = _type(schema, key, table)
        if not (_text(kind) or _bytes(kind) or is_type.is_integer(kind)):
            raise ValueError(
                f"dsm_ext: expected the key column {key} of {table} to hold texts or integers, "
                f"got {kind}"
            )
    if picture is not None:
        kind = _type(schema, picture, table)
        if not (_content(kind) or _text(kind)):
            raise ValueError(
                f"dsm_ext: expected the image column {picture} of {table} to hold encoded "
                f"pictures or paths, got {kind}"
            )
        return Columns(picture, not _content(kind), key)
    names = [name for name in schema.names if schema.names.count(name) == 1]
    kinds = {name: _plain(schema.field(name).type) for name in names}
    content = [name for name in names if _content(kinds[name]) and name != key]
    paths = [name for name in names if _text(kinds[name])]
    if named := _first(PICTURES, content) or (content[0] if len(content) == 1 else None):
        return Columns(named, False, key)
    if not content and (named := _first(PATHS, paths)):
        return Columns(named, True, key)
    raise ValueError(
        f"dsm_ext: which column of {table} holds the pictures, or their paths, is not clear: name "
        f"one as the image column. Its columns: {_listed(schema)}"
    )


def _first(known: tuple[str, ...], names: list[str]) -> str | None:
    by_name = {name.lower(): name for name in reversed(names)}
    return next((by_name[name] for name in known if name in by_name), None)


def _type(schema: pa.Schema, name: str, table: str) -> pa.DataType:
    if schema.names.count(name) != 1:
        several = "several columns" if name in schema.names else "no column"
        raise ValueError(f"dsm_ext: {table} has {several} {name}. Its columns: {_listed(schema)}")
    return _plain(schema.field(name).type)


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values of an extension type or a dictionary."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    return _plain(kind.value_type) if is_type.is_dictionary(kind) else kind


def _text(kind: pa.DataType) -> bool:
    return is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind)


def _bytes(kind: pa.DataType) -> bool:
    return (
        is_type.is_binary(kind)
        or is_type.is_large_binary(kind)
        or is_type.is_binary_view(kind)
        or is_type.is_fixed_size_binary(kind)
    )


def _content(kind: pa.DataType) -> bool:
    """Whether values are encoded pictures, alone or as Hugging Face's struct<bytes, path>."""
    if is_type.is_struct(kind):
        return any(field.name == "bytes" and _bytes(_plain(field.type)) for field in kind)
    return _bytes(kind)
