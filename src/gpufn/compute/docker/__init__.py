"""The backend that runs containers, through the API of a Docker Engine or Podman: this machine's, by its
socket, or another one's.

``backend`` holds the verbs; ``engine`` is the only module that talks to the engine and translates its library's
exceptions; everything else here is decisions without I/O, or a small file.
"""

from gpufn.compute.docker.backend import DockerBackend, Site, this_machine

__all__ = ["DockerBackend", "Site", "this_machine"]
