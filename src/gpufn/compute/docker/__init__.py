"""The backend that runs containers, through the socket of a Docker Engine or Podman on this machine.

``backend`` holds the verbs; ``engine`` is the only module that talks to the engine and translates its library's
exceptions; everything else here is decisions without I/O, or a small file.
"""

from gpufn.compute.docker.backend import DockerBackend

__all__ = ["DockerBackend"]
