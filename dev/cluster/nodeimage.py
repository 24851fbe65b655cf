"""Builds the kind node image where the public one cannot be pulled.

kind's own recipe with other ingredients: its files out of its Go module, containerd and runc from Debian, Kubernetes
from Go modules. The images that kubeadm starts lie in the node's containerd, tagged with the names it asks for.
"""

import io
import pathlib
import re
import shutil
import tarfile

from dev.cluster import binaries, console, debian, engine, images, settings, standins

REPOSITORY = "kubetune/node"
FILES = settings.HERE / "files"
PAUSE = re.compile(r'sandbox_image = "([^"]+)"')
STORAGE_MANIFEST = re.compile(r"const defaultStorageManifest = `\n(.*?)\n`\n", re.S)
GO_CONCATENATION = re.compile(r"` \+ (\w+) \+ `")


def tag(config: settings.Settings) -> str:
    """The image's tag says what it was made from, so a changed source makes a new image."""
    parts = [binaries.MODULES / "node", binaries.MODULES / "local-path-provisioner", binaries.MODULES / "kind"]
    scripts = [pathlib.Path(__file__), FILES / "node", FILES / "kube-proxy"]
    preloaded = [standins.wanted(folder) for folder in standins.IMAGES]
    return f"{REPOSITORY}:{settings.KUBERNETES_VERSION}-{images.digest(*parts, *scripts, *preloaded)}"


def ensure(config: settings.Settings) -> str:
    env = engine.environment(config)
    image = tag(config)
    if not images.identifier(image, env):
        debian.ensure_base(config)
        with console.step(f"building the node image {image}", 120):
            _build(config, image)
        _remove_older(image, env)
        shutil.rmtree(config.cache / "go" / "build", ignore_errors=True)  # gigabytes that only the same build would use
    return image


def _remove_older(image: str, env: dict[str, str]) -> None:
    listed = console.capture(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY], env=env)
    for older in set(listed.split()) - {image}:
        console.attempt(["docker", "image", "rm", older], env=env)


def _build(config: settings.Settings, image: str) -> None:
    kind = binaries.module_folder(config, "kind", "sigs.k8s.io/kind")
    scratch = config.cache / "building" / "node-image"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    base = f"{image}-base"
    _build_base(config, scratch / "base", kind, base)
    storage, storage_images = _storage_manifest(kind)
    archive = scratch / "images.tar"
    _save_control_plane(config, scratch, kind, storage_images, archive)
    _commit(config, image, base, archive, storage)
    shutil.rmtree(scratch)


def _build_base(config: settings.Settings, context: pathlib.Path, kind: pathlib.Path, image: str) -> None:
    shutil.copytree(FILES / "node", context)
    shutil.copytree(kind / "images/base/files", context / "kind")
    for path in (context / "kind").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the module cache is read-only
    for name in ("kubeadm", "kubelet", "kubectl"):
        shutil.copy2(config.bin / name, context / name)
    _docker_build(config, image, context)


def _docker_build(config: settings.Settings, image: str, context: pathlib.Path) -> None:
    build = ["docker", "build", "--network=host", f"--build-arg=BASE={debian.IMAGE}", f"--tag={image}", str(context)]
    console.run(build, log=config.cache / "logs" / "node-image.log", env=engine.environment(config))


def _storage_manifest(kind: pathlib.Path) -> tuple[str, dict[str, str]]:
    """kind's own manifest of the default StorageClass, and the names of the two images that it uses."""
    source = (kind / "pkg/build/nodeimage/const_storage.go").read_text()
    names = dict(re.findall(r'const (storage\w+Image) = "([^"]+)"', source))
    found = STORAGE_MANIFEST.search(source)
    if not found:
        raise settings.UserError("kind's source changed: no storage manifest in const_storage.go")
    return GO_CONCATENATION.sub(lambda match: names[match[1]], found[1]), names


def _save_control_plane(
    config: settings.Settings, scratch: pathlib.Path, kind: pathlib.Path, storage: dict[str, str], archive: pathlib.Path
) -> None:
    """Makes an image of every program under the name that kubeadm, containerd or kind will ask for."""
    env = engine.environment(config)
    version = f"--kubernetes-version={settings.KUBERNETES_VERSION}"
    listing = [str(config.bin / "kubeadm"), "config", "images", "list", version]
    names = {name.rsplit("/", 1)[-1].split(":")[0]: name for name in console.capture(listing, env=env).split()}
    pause = PAUSE.search((kind / "images/base/files/etc/containerd/config.toml").read_text())
    names["pause"] = pause[1] if pause else names["pause"]
    proxy = scratch / "kube-proxy"
    shutil.copytree(FILES / "kube-proxy", proxy)
    shutil.copy2(config.bin / "kube-proxy", proxy)
    _docker_build(config, names["kube-proxy"], proxy)
    for program in (*binaries.CONTROL_PLANE, "etcd", "coredns", "pause"):
        import_program(config, names[program], config.bin / program)
    names["local-path-provisioner"] = storage["storageProvisionerImage"]
    import_program(config, storage["storageProvisionerImage"], config.bin / "local-path-provisioner")
    names["local-path-helper"] = storage["storageHelperImage"]
    console.capture(["docker", "tag", debian.IMAGE, storage["storageHelperImage"]], env=env)
    preloaded = standins.ours(config)  # loading them into each new node would take longer than all the rest
    command = ["docker", "save", "--output", str(archive), *names.values(), *preloaded]
    console.run(command, log=config.cache / "logs" / "node-image.log", env=env)
    console.attempt(["docker", "image", "rm", *names.values()], env=env)


def import_program(config: settings.Settings, image: str, program: pathlib.Path) -> None:
    """An image of one static program and the two files that such a program looks for."""
    archive = config.cache / "building" / "program.tar"
    with tarfile.open(archive, "w") as tar:
        entry = tar.gettarinfo(program, f"usr/local/bin/{program.name}")
        entry.uid = entry.gid = 0
        entry.mode = 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
        tar.add(debian.CERTIFICATES, "etc/ssl/certs/ca-certificates.crt")
        passwd = b"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(passwd)
        tar.addfile(entry, io.BytesIO(passwd))
        entry = tarfile.TarInfo("tmp")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(entry)
    changes = ["ENV PATH=/usr/local/bin", f'ENTRYPOINT ["/usr/local/bin/{program.name}"]']
    command = ["docker", "import", *(word for change in changes for word in ("--change", change)), str(archive), image]
    console.run(command, log=config.cache / "logs" / "node-image.log", env=engine.environment(config))
    archive.unlink()


def _commit(config: settings.Settings, image: str, base: str, archive: pathlib.Path, storage: str) -> None:
    """Puts images and manifests into a container of the base and makes that the node image, as `kind build` does."""
    env = engine.environment(config)
    log = config.cache / "logs" / "node-image.log"
    run = ["docker", "run", "--detach", "--privileged", "--network=none", f"--volume={archive.parent}:/build:ro"]
    container = console.capture([*run, "--entrypoint=sleep", base, "infinity"], env=env).strip()
    script = (
        "set -e; cat > /kind/manifests/default-storage.yaml; "
        f"echo -n {settings.KUBERNETES_VERSION} > /kind/version; "
        "cp /build/base/default-cni.yaml /kind/manifests/default-cni.yaml; "
        "containerd --log-level warn & until ctr version > /dev/null 2>&1; do sleep 0.2; done; "
        f"ctr --namespace=k8s.io images import --all-platforms --no-unpack --digests /build/{archive.name}; "
        "kill %1; wait; rm -rf /run/containerd"
    )
    try:
        exec_ = ["docker", "exec", "--interactive", container, "bash", "-c", script]
        console.run(exec_, log=log, env=env, stdin=storage.encode())
        entrypoint = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
        console.run(["docker", "commit", "--change", entrypoint, container, image], log=log, env=env)
    finally:
        console.attempt(["docker", "rm", "-f", "-v", container], env=env)
    console.attempt(["docker", "image", "rm", base], env=env)
