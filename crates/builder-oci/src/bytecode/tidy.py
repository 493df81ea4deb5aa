# Removes the bytecode in the folders that its arguments name which is not compared with its source when it is imported
# (PEP 552), and whose source is another one by now, or gone. Run by the image's own interpreter, Python 3.8 or newer, of
# which only the smallest part may be there.
import importlib.util
import os
import sys

TAG = f".{sys.implementation.cache_tag}."
UNCHECKED = importlib.util.MAGIC_NUMBER + b"\1\0\0\0"


def is_stale(path, source):
    with open(path, "rb") as file:
        header = file.read(16)
    if len(header) < 16 or header[:8] != UNCHECKED:
        return False
    try:
        with open(source, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return True
    if header[8:] == importlib.util.source_hash(content):
        return False
    # That of a conda package has the size of its source in place of a hash, and was laid out at the same time as it.
    is_of_size = int.from_bytes(header[12:], "little") == len(content)
    return not is_of_size or os.stat(path).st_mtime_ns != os.stat(source).st_mtime_ns


for folder in sys.argv[1:]:
    for place, _, names in os.walk(folder):
        if os.path.basename(place) != "__pycache__":
            continue
        for name in names:
            stem, tag, _ = name.rpartition(TAG)
            path = f"{place}/{name}"
            try:
                if tag and name.endswith(".pyc") and is_stale(path, f"{os.path.dirname(place)}/{stem}.py"):
                    os.remove(path)
            except OSError:
                # One that cannot be read is imported by nobody.
                pass
