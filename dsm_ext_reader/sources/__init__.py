"""What a user names as the place of pictures: folders, patterns, lists, tables and archives."""

from dsm_ext_reader.sources.sources import Sources

__all__ = ["Sources"]
