"""Installs conda packages into /opt/venv with rattler, while an image is built.

Reads conda.json beside it: packages, channels, mirrors. Whatever is true of the image and not of the machine that builds it
is told by the same virtual packages as the embedded builder's.
"""

import asyncio
import json
import os
import pathlib
import platform
import sys

import rattler
from rattler.networking import Client
from rattler.networking.middleware import MirrorMiddleware

PREFIX = pathlib.Path("/opt/venv")
TOOLS = "/dev/imagespec"
CACHE = f"{TOOLS}/cache/conda"
# Where packages of a channel on the machine that builds come from, for whoever reads the image.
LOCAL, PORTABLE = f"file://{TOOLS}/channels/", "file:///local-channel/"
FAILED = 96


def fail(text):
    print(f"imagespec: {text}", file=sys.stderr)
    sys.exit(FAILED)


def virtual_packages(machine):
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    if name != "glibc":
        fail("conda packages need a base with glibc")
    glibc = ".".join(version.split(".")[:2])
    known = [("__unix", "0", "0"), ("__linux", "5.10", "0"), ("__glibc", glibc, "0"), ("__archspec", "1", machine)]
    return [
        rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build))
        for name, version, build in known
    ]


def portable(record):
    """`conda-meta` as it is on every machine: neither caches nor folders of the build stand in it."""
    document = json.loads(record.read_text())
    for name in ("url", "channel"):
        value = document.get(name)
        if isinstance(value, str) and value.startswith(LOCAL):
            # The number of the channel follows.
            document[name] = PORTABLE + value[len(LOCAL) :].partition("/")[2]
    for name in ("extracted_package_dir", "package_tarball_full_path"):
        document.pop(name, None)
    if isinstance(document.get("link"), dict):
        document["link"]["source"] = ""
    record.write_text(json.dumps(document, indent=2) + "\n")
    record.chmod(0o644)


async def install(asked):
    machine = platform.machine()
    subdir = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}.get(machine)
    if subdir is None:
        fail(f"conda packages cannot be installed on {machine}")
    mirrors = asked["mirrors"]
    client = Client([MirrorMiddleware({name: [mirror] for name, mirror in mirrors.items()})]) if mirrors else Client()
    # Channels are asked anew each time: what is kept is only compared.
    gateway = rattler.Gateway(cache_dir=f"{CACHE}/repodata", client=client)
    try:
        records = await rattler.solve(
            [rattler.Channel(channel) for channel in asked["channels"]],
            [rattler.MatchSpec(spec, strict=False) for spec in asked["packages"]],
            gateway=gateway,
            platforms=[subdir, "noarch"],
            virtual_packages=virtual_packages(machine),
            channel_priority=rattler.ChannelPriority.Strict,
            channel_relations="disabled",
        )
    except Exception as error:
        fail(f"the conda packages cannot be solved: {error}")
    for record in records:
        if record.sha256 is None:
            fail(f"the channel says no sha256 of {record.file_name}")
    print(f"Installing {len(records)} conda packages")
    try:
        await rattler.install(
            sorted(records, key=lambda record: record.name.normalized),
            PREFIX,
            cache_dir=f"{CACHE}/packages",
            platform=rattler.Subdir(subdir),
            execute_link_scripts=False,
            show_progress=False,
            client=client,
        )
    except Exception as error:
        fail(f"the conda packages cannot be installed: {error}")
    for record in (PREFIX / "conda-meta").glob("*.json"):
        portable(record)
    # What makes a folder an environment for conda and its kin.
    (PREFIX / "conda-meta/history").touch()
    (PREFIX / "CACHEDIR.TAG").unlink(missing_ok=True)
    if not (PREFIX / "bin/python").exists():
        fail("the conda packages bring no Python")


if PREFIX.exists():
    fail(f"the base has something at {PREFIX}, where conda packages are installed")
with open(f"{TOOLS}/conda.json", encoding="utf-8") as file:
    asyncio.run(install(json.load(file)))
