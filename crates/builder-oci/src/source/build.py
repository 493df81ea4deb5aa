"""Makes a wheel of sources, in the sandbox: nothing here runs on the machine that builds the image.

Unpacks an archive or checks a commit out, always at one place, so that compiled code does not hold paths that differ, and
asks the sources' own backend for the wheel. Needs nothing but the standard library of a Python from 3.7 on. The exit codes
are known to `build.rs`; any other one is that of uv or of the backend.
"""

import importlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile

NO_GIT, NOT_FETCHED, NO_COMMIT, NO_FOLDER, NOT_UNPACKED = 91, 92, 93, 94, 95
WORK = "/tmp/imagespec"
PLACE = WORK + "/source"
ENVIRONMENT = WORK + "/environment"


def unpack(archive):
    """Unpacks the archive and returns its top folder, whose name some packages take their version from."""
    try:
        if archive.endswith(".zip"):
            with zipfile.ZipFile(archive) as members:
                for member in members.infolist():
                    path = members.extract(member, PLACE)
                    mode = member.external_attr >> 16
                    if stat.S_ISREG(mode) and mode & 0o111:
                        os.chmod(path, 0o755)
        else:
            with tarfile.open(archive) as members:
                safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                members.extractall(PLACE, **safe)
    except (OSError, EOFError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_UNPACKED)
    tops = os.listdir(PLACE)
    top = os.path.join(PLACE, tops[0]) if len(tops) == 1 else PLACE
    return top if os.path.isdir(top) else PLACE


def check_out(url, commit):
    """Checks the commit out, with the history and tags that some packages take their version from."""
    git = shutil.which("git")
    if git is None:
        sys.exit(NO_GIT)
    folder = os.path.join(PLACE, "repository")

    def run(*arguments):
        return subprocess.run([git, "-C", folder, *arguments], stdin=subprocess.DEVNULL).returncode

    clone = [git, "clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", url, folder]
    if subprocess.run(clone, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(NOT_FETCHED)
    # What no branch or tag leads to, such as a pull request's, has to be asked for by itself.
    has_commit = subprocess.run([git, "-C", folder, "cat-file", "-e", commit + "^{commit}"], stderr=subprocess.DEVNULL)
    if has_commit.returncode != 0 and run("fetch", "--quiet", "origin", commit) != 0:
        sys.exit(NO_COMMIT)
    if run("checkout", "--quiet", "--detach", commit) != 0:
        sys.exit(NO_COMMIT)
    if run("submodule", "--quiet", "update", "--init", "--recursive") != 0:
        sys.exit(NOT_FETCHED)
    return folder


def backend_of(folder, uv):
    """The backend of the sources, where it lies in them, and what it requires (PEP 517, PEP 518)."""
    legacy = {"requires": ["setuptools>=40.8.0"], "build-backend": "setuptools.build_meta:__legacy__"}
    path = os.path.join(folder, "pyproject.toml")
    if not os.path.isfile(path):
        return legacy
    try:
        import tomllib
    except ImportError:  # before Python 3.11
        reader = os.path.join(WORK, "tomli")
        call(uv + ["pip", "install", "--quiet", "--target", reader, "tomli"])
        sys.path.insert(0, reader)
        import tomli as tomllib
    with open(path, "rb") as file:
        try:
            document = tomllib.load(file)
        except ValueError as error:
            sys.exit("error: pyproject.toml: {}".format(error))
    return dict(legacy, **document["build-system"]) if "build-system" in document else legacy


def call(command, **options):
    code = subprocess.run(command, stdin=subprocess.DEVNULL, **options).returncode
    if code != 0:
        sys.exit(code if code > 0 else 128 - code)


def build(folder, wanted):
    """Makes the wheel as PEP 517 says, in an environment at a fixed path.

    `uv build` has one at a random path, and compilers write the paths of headers (of numpy, of pybind11) into what they
    make, so that no two builds of the same sources would be equal.
    """
    uv, answer = wanted["uv"], os.path.join(WORK, "answer.json")
    system = backend_of(folder, uv)
    call(uv + ["venv", "--quiet", "--python", wanted["python"], ENVIRONMENT])
    install = uv + ["pip", "install", "--python", ENVIRONMENT] + wanted["options"] + ["--"]
    if system["requires"]:
        call(install + system["requires"])
    bin_folder = os.path.join(ENVIRONMENT, "bin")
    env = dict(os.environ, VIRTUAL_ENV=ENVIRONMENT, PATH=bin_folder + os.pathsep + os.environ["PATH"])

    def hook(name, arguments):
        asked = json.dumps([system["build-backend"], system.get("backend-path", []), name, arguments, answer])
        call([os.path.join(bin_folder, "python"), __file__, "hook", asked], cwd=folder, env=env)
        with open(answer, encoding="utf-8") as file:
            return json.load(file)

    further = hook("get_requires_for_build_wheel", [])
    if further:
        call(install + further)
    hook("build_wheel", [wanted["output"]])


def answer_hook(asked):
    """Calls one function of the backend, in its own process and the sources' folder."""
    backend, folders, name, arguments, answer = json.loads(asked)
    # Neither this file's folder nor that of the sources may be found by accident.
    sys.path[:1] = [os.path.join(os.getcwd(), folder) for folder in folders]
    module, _, attributes = backend.partition(":")
    found = importlib.import_module(module)
    for attribute in attributes.split(".") if attributes else []:
        found = getattr(found, attribute)
    function = getattr(found, name, None)
    # Every hook but the one that makes the wheel may be left out.
    result = [] if function is None and name != "build_wheel" else getattr(found, name)(*arguments)
    with open(answer, "w", encoding="utf-8") as file:
        json.dump(result, file)


def main():
    os.umask(0o022)
    if sys.argv[1] == "hook":
        return answer_hook(sys.argv[2])
    with open(sys.argv[1], encoding="utf-8") as file:
        wanted = json.load(file)
    os.makedirs(PLACE)
    if wanted["archive"]:
        folder = unpack(wanted["archive"])
    else:
        folder = check_out(wanted["repository"], wanted["commit"])
    if wanted["subdirectory"]:
        top, folder = folder, os.path.join(folder, wanted["subdirectory"])
        # A link that leads out of the sources is no folder in them.
        if os.path.commonpath([os.path.realpath(folder), top]) != top or not os.path.isdir(folder):
            sys.exit(NO_FOLDER)
    build(folder, wanted)


main()
