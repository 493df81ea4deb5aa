"""Makes a wheel of sources, in the sandbox: nothing here runs on the machine that builds the image.

Unpacks an archive or checks a commit out, always at one place, so that compiled code does not hold paths that differ, and
has uv build the wheel. Needs nothing but the standard library of a Python from 3.7 on. The exit codes are known to
`build.rs`; any other one is uv's.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile

NO_GIT, NOT_FETCHED, NO_COMMIT, NO_FOLDER, NOT_UNPACKED = 91, 92, 93, 94, 95
PLACE = "/tmp/imagespec/source"


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


def main():
    os.umask(0o022)
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
    sys.exit(subprocess.run(wanted["uv"] + ["--", folder], stdin=subprocess.DEVNULL).returncode)


main()
