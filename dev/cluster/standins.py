"""Stand-ins for public images that cannot be pulled: built from Debian's packages, tagged by the public names.

So chart and Dockerfiles are one and the same everywhere. A public image that is there is never touched.
"""

from dev.cluster import console, debian, engine, images, settings

PULL_TIMEOUT_S = 600.0
FOLDER = settings.REPOSITORY / "dev" / "images"
EXPECTED_S = {"python": 60, "postgres": 60}
IMAGES = {"python": settings.PYTHON_IMAGE, "postgres": settings.POSTGRES_IMAGE}


def can_pull(config: settings.Settings) -> bool:
    """Whether the public node image is there or to be had. Where there is no way to a registry, that shows at once."""
    env = engine.environment(config)
    if images.identifier(settings.PUBLIC_NODE_IMAGE, env):
        return True
    if any(images.inputs(image, env) for image in IMAGES.values()):
        return False  # asked before, and so it was; `down` and removing the cache make us ask again
    with console.step(f"pulling {settings.PUBLIC_NODE_IMAGE}", 60):
        pull = ["docker", "pull", "--quiet", settings.PUBLIC_NODE_IMAGE]
        result = console.attempt(pull, env=env, timeout_s=PULL_TIMEOUT_S)
    return result.returncode == 0


def ensure(config: settings.Settings) -> None:
    env = engine.environment(config)
    for folder, image in IMAGES.items():
        present = images.inputs(image, env)
        if present == wanted(folder) or (present is None and images.identifier(image, env)):
            continue
        debian.ensure_base(config)
        with console.step(f"building a stand-in for {image} from Debian's packages", EXPECTED_S[folder]):
            label = f"--label={images.LABEL}={wanted(folder)}"
            command = ["docker", "build", "--network=host", label, f"--tag={image}", str(FOLDER / folder)]
            console.run(command, log=config.cache / "logs" / f"{folder}.log", env=env)


def wanted(folder: str) -> str:
    """What a stand-in is made from."""
    return images.digest(FOLDER / folder, debian.inputs())


def ours(config: settings.Settings) -> list[str]:
    """The images that the nodes cannot pull: those are loaded into them."""
    env = engine.environment(config)
    return [image for image in IMAGES.values() if images.inputs(image, env)]
