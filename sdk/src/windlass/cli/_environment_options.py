"""Options that say what environment a job gets, of ``windlass submit`` and ``windlass env``, and what they mean."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Dict, List, Optional

import typer

from windlass.cli._options import key_values

if TYPE_CHECKING:
    from windlass.environment import Environment

Pip = Annotated[
    Optional[List[str]], typer.Option("--pip", metavar="PKG", help="A package, in pip's syntax; may be repeated.")
]
Conda = Annotated[Optional[List[str]], typer.Option("--conda", metavar="PKG", help="A conda package; may be repeated.")]
Requirements = Annotated[
    Optional[str], typer.Option("--requirements", metavar="FILE", help="A requirements file with more packages.")
]
CondaFile = Annotated[
    Optional[str], typer.Option("--conda-file", metavar="FILE", help="A conda environment file with more packages.")
]
Channel = Annotated[
    Optional[List[str]],
    typer.Option("--channel", metavar="NAME", help="A conda channel, name or address; may be repeated."),
]
Python = Annotated[Optional[str], typer.Option("--python", metavar="VERSION", help="Python version, such as 3.9.")]
Image = Annotated[Optional[str], typer.Option("--image", metavar="IMAGE", help="In a container of this image.")]
Dockerfile = Annotated[
    Optional[str], typer.Option("--dockerfile", metavar="FILE", help="In a container of the image it makes.")
]
ShmSize = Annotated[
    Optional[str], typer.Option("--shm-size", metavar="SIZE", help="Shared memory of the container, such as 4g.")
]
Memory = Annotated[
    Optional[str], typer.Option("--memory", metavar="SIZE", help="Memory limit of the container, such as 8g.")
]


def environment(
    pip: "Optional[List[str]]" = None, conda: "Optional[List[str]]" = None, requirements: "Optional[str]" = None,
    python: "Optional[str]" = None, variables: "Optional[List[str]]" = None, *,
    conda_file: "Optional[str]" = None, channels: "Optional[List[str]]" = None, image: "Optional[str]" = None,
    dockerfile: "Optional[str]" = None,
) -> "Environment":  # fmt: skip
    """The environment that the options ask for; without packages a container has what its image has.

    Raises:
        UserErrorException: a file cannot be read, a value can be none, or two contradict each other.
    """
    from windlass._requirements_file import read_requirements
    from windlass.conda_dependencies import CondaDependencies
    from windlass.environment import Environment

    packages = (read_requirements(requirements) if requirements else []) + (pip or [])
    made = Environment("cli")
    wanted = CondaDependencies(conda_file) if conda_file is not None else CondaDependencies()
    wanted._add(conda or [], packages)
    if python is not None:
        wanted.set_python_version(python)
    for channel in channels or []:
        wanted.add_channel(channel)
    made.python.conda_dependencies = wanted
    made.environment_variables = key_values("--env", variables)
    _set_container(made, image, dockerfile)
    return made


def _set_container(made: "Environment", image: "Optional[str]", dockerfile: "Optional[str]") -> None:
    from windlass._environment_sections import image_name, is_azure_image
    from windlass.errors import UserErrorException

    if image is not None and dockerfile is not None:
        raise UserErrorException("--image %s and --dockerfile %s: give one of them." % (image, dockerfile))
    if image is not None:
        made.docker.base_image = image_name("--image", image)
    elif dockerfile is not None:
        made.docker.base_image = None
        if not os.path.isfile(os.path.expanduser(dockerfile)):
            raise UserErrorException("--dockerfile %s is no file." % dockerfile)
        made.docker.base_dockerfile = dockerfile
    packages = made.python.conda_dependencies
    bare = packages is None or not (packages._pip or packages._conda or packages.get_python_version())
    in_image = dockerfile is not None or (image is not None and not is_azure_image(image))
    made.python.user_managed_dependencies = in_image and bare


def set_limits(made: "Environment", limits: "Dict[str, Optional[str]]") -> None:
    """Take over limits of the container, by option.

    Raises:
        UserErrorException: some are given, and the environment is in no container.
    """
    from windlass.errors import UserErrorException

    given = {name: size for name, size in limits.items() if size is not None}
    if given and made.docker._spec("docker") is None:
        raise UserErrorException(
            "%s holds in containers only; give --image or --dockerfile, too." % " and ".join(sorted(given))
        )
    made.docker.arguments = [word for entry in given.items() for word in entry]
