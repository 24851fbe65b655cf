"""A Debian base image from debootstrap: the ground of every image that cannot be pulled here.

It never leaves this machine, so it carries the machine's package sources, certificates and pip settings: that is what
lets an ordinary Dockerfile (`RUN pip install …`) work here without a line for this machine.
"""

import configparser
import os
import pathlib
import re
import shutil

from dev.cluster import console, debris, engine, images, settings

IMAGE = "kubetune/debian:bookworm"
SUITE = "bookworm"
DEBIAN_SUITE = rf"^(deb\s|Suites:).*\s{SUITE}(-security|-updates)?\b"
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")


def ensure_base(config: settings.Settings) -> None:
    env = engine.environment(config)
    if images.inputs(IMAGE, env) == inputs():
        return
    if os.geteuid() != 0:
        raise settings.UserError("Base images cannot be pulled here, and building them (debootstrap) takes root.")
    if not shutil.which("debootstrap", path=env["PATH"]):
        engine.install_packages(config, ["debootstrap"])
    root = config.cache / "rootfs"
    with console.step("building a Debian base image (debootstrap)", 60):
        debris.unmount(config)  # an interrupted debootstrap leaves /proc mounted in there
        shutil.rmtree(root, ignore_errors=True)
        log = config.cache / "logs" / "debootstrap.log"
        mirror = [uri] if (uri := _mirror()) else []
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(root), *mirror]
        console.run(command, log=log, env=env)
        _carry_over(root)
        _import(root, config)
        shutil.rmtree(root)


def inputs() -> str:
    """What the base image is made from; a machine with other certificates or sources makes another."""
    files = [pathlib.Path(__file__), *_sources(), *_download_settings(), CERTIFICATES]
    return images.digest(*(path for path in files if path.exists()), _pip_conf())


def _mirror() -> str | None:
    """The Debian mirror that this machine uses; None (debootstrap's own default) where it names none for bookworm."""
    for path in _sources():
        text = path.read_text(errors="replace")
        for stanza in re.split(r"\n\s*\n", text):
            uris = re.search(r"^URIs:\s*(\S+)", stanza, re.M)
            if uris and re.search(rf"^Suites:.*\b{SUITE}\b(?!-)", stanza, re.M):
                return uris[1]
        line = re.search(rf"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{SUITE}\s", text, re.M)
        if line:
            return line[1]
    return None


def _sources() -> list[pathlib.Path]:
    folder = pathlib.Path("/etc/apt")
    candidates = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    suitable = [path for path in candidates if path.suffix in (".list", ".sources") and path.is_file()]
    return [path for path in suitable if re.search(DEBIAN_SUITE, path.read_text(errors="replace"), re.M)]


def _download_settings() -> list[pathlib.Path]:
    files = sorted(pathlib.Path("/etc/apt/apt.conf.d").glob("*"))
    return [path for path in files if "Acquire::" in path.read_text(errors="replace") and "docker" not in path.name]


def _carry_over(root: pathlib.Path) -> None:
    """The host's package sources, download settings, certificates and pip settings."""
    if _mirror():
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
        for path in _sources():
            shutil.copy2(path, root / "etc/apt" / path.relative_to("/etc/apt"))
    for path in _download_settings():
        shutil.copy2(path, root / "etc/apt/apt.conf.d" / path.name)
    small = 'APT::Install-Recommends "false";\nAcquire::Languages "none";\nAPT::Keep-Downloaded-Packages "false";\n'
    (root / "etc/apt/apt.conf.d/90small").write_text(small)
    for path in pathlib.Path("/usr/local/share/ca-certificates").glob("*.crt"):
        shutil.copy2(path, root / "usr/local/share/ca-certificates" / path.name)
    if CERTIFICATES.exists():
        shutil.copy2(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    (root / "etc/pip.conf").write_text(_pip_conf())


def _pip_conf() -> str:
    """pip's settings of this machine, from its files and environment, less those that name local paths."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read([pathlib.Path("/etc/pip.conf"), pathlib.Path.home() / ".config/pip/pip.conf"])
    found = dict(parser["global"]) if parser.has_section("global") else {}
    found |= {o: os.environ[name] for o in PIP_OPTIONS if (name := "PIP_" + o.upper().replace("-", "_")) in os.environ}
    lines = [f"{option} = {value}" for option, value in found.items() if option in PIP_OPTIONS]
    return "\n".join(["[global]", f"cert = {CERTIFICATES}", *lines, ""])


def _import(root: pathlib.Path, config: settings.Settings) -> None:
    for litter in ("var/lib/apt/lists", "var/cache/apt/archives", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        for path in (root / litter).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    archive = config.cache / "debian.tar"
    log = config.cache / "logs" / "debootstrap.log"
    console.run(["tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-cf", str(archive), "."], log=log)
    label = f"LABEL {images.LABEL}={inputs()}"
    console.run(["docker", "import", "--change", label, str(archive), IMAGE], log=log, env=engine.environment(config))
    archive.unlink()
