#!/opt/venv/bin/python -I
# Installs the packages that the variable IMAGESPEC_RUNTIME_PACKAGES names, and becomes the program that its arguments name.
#
# The packages come to lie in a new folder of this container, first on PYTHONPATH: /opt/venv belongs to root, whoever the
# image's user is, and a folder whose name is known beforehand could be somebody else's. What the image has already is
# taken as it is, unless a package asks for another version.
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = "/opt/imagespec"
PYTHON = "/opt/venv/bin/python"
VARIABLE = "IMAGESPEC_RUNTIME_PACKAGES"
# Whom the image trusts, as its other programs do. uv has a list of its own for an image without.
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# As `docker run` ends when a container cannot be started, a program cannot be executed, and is not there.
NOT_STARTED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


def fail(code, text):
    sys.stderr.write(f"imagespec: {text}\n")
    sys.exit(code)


def installed():
    """What the image has, as a requirements file says it."""
    lines = set()
    for distribution in importlib.metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if name and re.fullmatch(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9.]+)?", version or ""):
            lines.add(f"{re.sub('[-_.]+', '-', name).lower()}=={version}")
    return lines


def run_uv(packages, env, arguments):
    words = [f"{HERE}/uv", "pip", *arguments, "--python", PYTHON, "--quiet", "--no-config", "--color", "never"]
    try:
        uv = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        fail(NOT_STARTED, f"cannot run {HERE}/uv: {error.strerror}")
    if uv.returncode != 0:
        said = uv.stderr.decode(errors="replace").strip()
        fail(NOT_STARTED, f"cannot install the runtime packages {' '.join(packages)}:\n{said}")


def install(packages):
    """Installs what is missing and returns the folder with it; none if nothing is."""
    try:
        folder = tempfile.mkdtemp(prefix="imagespec-")
    except OSError:
        fail(NOT_STARTED, "runtime packages need a folder to write to: mount one at /tmp, or name one by TMPDIR")
    # A program that goes on as another user imports from it, too.
    os.chmod(folder, 0o755)
    with open(f"{HERE}/settings.json", encoding="utf-8") as file:
        settings = json.load(file)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for name, value in settings["env"].items():
        env.setdefault(name, value)
    env.setdefault("UV_CACHE_DIR", f"{folder}/cache")
    if os.path.exists(AUTHORITIES):
        env.setdefault("UV_SYSTEM_CERTS", "true")
    have = installed()
    with open(f"{folder}/wanted.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{package}\n" for package in packages)
    versions = f"{folder}/versions.txt"
    with open(versions, "w", encoding="utf-8") as file:
        # uv keeps to the versions that its output has already, where it can.
        file.writelines(f"{line}\n" for line in sorted(have))
    arguments = ["compile", f"{folder}/wanted.txt", "--output-file", versions, "--no-header", "--no-annotate"]
    run_uv(packages, env, arguments + settings["arguments"])
    with open(versions, encoding="utf-8") as file:
        missing = [line for line in file if line.strip() and line.strip() not in have]
    with open(f"{folder}/missing.txt", "w", encoding="utf-8") as file:
        file.writelines(missing)
    if missing:
        arguments = ["install", "--no-deps", "--target", f"{folder}/packages", "--requirements", f"{folder}/missing.txt"]
        run_uv(packages, env, arguments + settings["install_arguments"])
    shutil.rmtree(f"{folder}/cache", ignore_errors=True)
    return f"{folder}/packages" if missing else None


def put_first(name, folder):
    """Puts a folder before those that a variable names."""
    others = os.environ.get(name)
    os.environ[name] = f"{folder}:{others}" if others else folder


def main():
    if len(sys.argv) < 2:
        fail(NOT_FOUND, "the image names no program to run")
    # The first process of a container does not hear of SIGTERM unless it asks to.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        packages = shlex.split(os.environ.get(VARIABLE, ""))
    except ValueError as error:
        fail(NOT_STARTED, f"{VARIABLE} cannot be read: {error}")
    folder = install(packages) if packages else None
    if folder:
        put_first("PYTHONPATH", folder)
        put_first("PATH", f"{folder}/bin")
    # Python ignores these, and whoever it becomes would, too.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except FileNotFoundError:
        fail(NOT_FOUND, f"there is no program {sys.argv[1]}")
    except OSError as error:
        fail(NOT_EXECUTABLE, f"cannot run {sys.argv[1]}: {error.strerror}")


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
