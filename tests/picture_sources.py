"""Reading all pictures of sources, for tests."""

import pickle

from dsm_ext_reader.sources import Sources


def read(*texts, known=None, **kwargs):
    """The pictures of some sources by key: their bytes, or the message of their error.

    The units are read as another process would read them: after pickling.
    """
    found = {}
    for unit in Sources([str(text) for text in texts], **kwargs).units():
        for picture in pickle.loads(pickle.dumps(unit)).pictures(known):
            assert picture.key not in found, picture.key
            try:
                found[picture.key] = picture.read()
            except (OSError, ValueError) as error:
                assert str(error).startswith("dsm_ext: ")
                found[picture.key] = str(error)
    return found


def put(root, *names):
    """Write files whose content is their name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(str(name).encode())
