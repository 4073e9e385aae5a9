"""Sources: what a user names as the place of pictures, and the units that they are read in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dsm_ext_reader.folders import suffixes
from dsm_ext_reader.sources.kinds import source_of
from dsm_ext_reader.units import Unit


class Sources:
    """The pictures that some texts name, in units.

    A text is the path of one of these, or a URL that ``open_filesystem`` opens:

    - a folder: the pictures below it, by their endings, as ``walk`` finds them. Tables and archives
      in it are not read: give a pattern for them;
    - a picture;
    - a list: a text file (.txt, .lst) with a path or URL on each line;
    - a Parquet table (.parquet, .pq) with a column of encoded pictures, or of paths or URLs;
    - a tar archive (.tar, also with .gz, .bz2, .xz or .zst after it, .tgz, .tbz2, .txz), such as
      WebDataset's. Its pictures are found by their endings;
    - a pattern for paths of one of these kinds, as ``Pattern`` describes. If it does not end like a
      list, table or archive, it names pictures and folders of pictures. A file that has the
      pattern's text as its name goes first.

    The key of a picture is its path: of a source, as ``place_of`` cleans it, and the path below it;
    in an archive, ``archive.tar/member``; in a list or a column of paths, as it stands there; in a
    column of encoded pictures, the value of the key column, or else ``table.parquet#row`` with rows
    counted from 0. A column of file names beside encoded pictures is not taken as the key: names
    often stand in it twice, and a picture whose key is known already is left out. ``key_of`` then
    makes it a text. So sources that overlap give the same keys, and the reader of the units leaves
    out keys that it has seen.

    Args:
        texts: the sources.
        image_column: the column of a table that has the pictures or paths. Default: see ``choose``.
        key_column: the column of a table that has the keys, texts or integers.
        unit: the most pictures of a unit. A unit of a table is a row group; a unit of an archive
            that is compressed, or not on this machine, is all of it.

    Raises:
        ValueError: a text is no source, or the columns of the first table are not clear.
        FileNotFoundError: a source does not exist or has no pictures. Lists and archives are not
            read to find that out.
        OSError, ImportError: a source cannot be opened, or a package for it is missing.
    """

    def __init__(
        self,
        texts: Sequence[str],
        *,
        image_column: str | None = None,
        key_column: str | None = None,
        unit: int = 64,
    ) -> None:
        if isinstance(texts, str) or not texts:
            raise ValueError(f"dsm_ext: expected one or more sources of pictures, got {texts!r}")
        if unit < 1:
            raise ValueError(f"dsm_ext: expected a unit of at least one picture, got {unit}")
        self.unit = unit
        suffixes()  # Pillow loads its formats now, and not in two threads at a time later
        columns = (image_column, key_column)
        self._sources = [source_of(text, columns) for text in texts]
        for source in self._sources:
            if source.check_columns():
                break

    def units(self) -> Iterator[Unit]:
        """Yield the units while the sources are read. What was passed over is told on stderr."""
        for source in self._sources:
            yield from source.units(self.unit)

    def count(self) -> int | None:
        """The number of pictures, if names, headers and footers tell it. None otherwise.

        This reads what it needs anew, and may run in another thread while ``units`` is used.
        """
        total = 0
        for source in self._sources:
            number = source.count()
            if number is None:
                return None
            total += number
        return total
