# Compiles the modules that the file `list` of a folder names, a line each: its name in that folder, and the path that it
# has in the image. Run by the image's own interpreter, Python 3.8 or newer, of which only the smallest part may be there.
#
# A module that is no program for this Python has no bytecode. Where the machine is what fails, the compiler does, too:
# what it left out then would be missing for ever.
import os
import py_compile
import signal
import sys

folder, target = sys.argv[1:3]
# What is wrong with a module and not with the machine. The stack that deep nesting fills up is the compiler's.
OF_THE_SOURCE = (SyntaxError, ValueError, OverflowError, RecursionError, SystemError)
SIGNALS_OF_THE_SOURCE = (signal.SIGSEGV, signal.SIGABRT)
# What the largest of modules may need.
MEMORY_BYTES = 64 << 20


def size(module):
    return os.stat(f"{folder}/{module[0]}").st_size


def compile_module(name, path, alone):
    try:
        py_compile.compile(
            f"{folder}/{name}",
            f"{target}/{name}",
            path,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except py_compile.PyCompileError as error:
        # Packages bring templates and modules for other Pythons. pip passes over them, too.
        if isinstance(error.exc_value, OF_THE_SOURCE):
            return
        if not (alone and isinstance(error.exc_value, MemoryError)):
            raise
        # Parsers say so of deep nesting, too. There is memory if this can be had.
        bytearray(MEMORY_BYTES)


def work(modules, done, alone):
    for name, path in modules:
        try:
            compile_module(name, path, alone)
        except BaseException as error:
            if alone:
                os.write(2, f"cannot compile {path}: {error!r}\n".encode(errors="replace"))
            return 1
        os.write(done, b".")
    return 0


def start(modules, alone=False):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work(modules, writer, alone)
        finally:
            os._exit(code)
    os.close(writer)
    return child, reader, modules


def wait(child, reader):
    """How many modules are done, and how the process ended."""
    done = 0
    while True:
        told = os.read(reader, 65536)
        if not told:
            break
        done += len(told)
    os.close(reader)
    return done, os.waitpid(child, 0)[1]


with open(f"{folder}/list", encoding="utf-8") as lines:
    modules = [line.rstrip("\n").split(" ", 1) for line in lines]
parts = [[0, []] for _ in os.sched_getaffinity(0)]
# The largest first, each to whoever has the least to do.
for module in sorted(modules, key=size, reverse=True):
    part = min(parts, key=lambda part: part[0])
    part[0] += size(module)
    part[1].append(module)
running = [start(modules) for _, modules in parts if modules]
failed = []
while running:
    child, reader, modules = running.pop()
    done, _ = wait(child, reader)
    failed.extend(modules[done : done + 1])
    if modules[done + 1 :]:
        running.append(start(modules[done + 1 :]))
# One at a time, with all memory for itself.
for module in failed:
    child, reader, _ = start([module], alone=True)
    _, status = wait(child, reader)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if status != 0 and number not in SIGNALS_OF_THE_SOURCE:
        sys.exit(f"{module[1]} could not be compiled" if number else 1)
