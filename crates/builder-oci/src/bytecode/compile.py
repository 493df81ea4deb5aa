# Compiles the modules that the file `list` of a folder names, a line each: its name in that folder, and the path that it
# has in the image. Run by the image's own interpreter, Python 3.8 or newer, of which only the smallest part may be there.
import os
import py_compile
import sys

folder, target = sys.argv[1:3]


def size(module):
    return os.stat(f"{folder}/{module[0]}").st_size


def work(modules, done):
    for name, path in modules:
        try:
            py_compile.compile(
                f"{folder}/{name}",
                f"{target}/{name}",
                path,
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except Exception:
            # Packages bring templates and modules for other Pythons. pip passes over them, too.
            pass
        os.write(done, b".")


def start(modules):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(modules, writer)
        finally:
            os._exit(0)
    os.close(writer)
    return child, reader, modules


with open(f"{folder}/list", encoding="utf-8") as lines:
    modules = [line.rstrip("\n").split(" ", 1) for line in lines]
parts = [[0, []] for _ in os.sched_getaffinity(0)]
# The largest first, each to whoever has the least to do.
for module in sorted(modules, key=size, reverse=True):
    part = min(parts, key=lambda part: part[0])
    part[0] += size(module)
    part[1].append(module)
running = [start(modules) for _, modules in parts if modules]
while running:
    child, reader, modules = running.pop()
    done = 0
    while True:
        told = os.read(reader, 65536)
        if not told:
            break
        done += len(told)
    os.close(reader)
    os.waitpid(child, 0)
    # The module that it ended at has ended the compiler itself.
    if modules[done + 1 :]:
        running.append(start(modules[done + 1 :]))
