"""Every setting, its default and what it means. Each part of the program is given its own branch, never the root."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class ServerSettings:
    """Where the installation listens."""

    host: str = "127.0.0.1"
    """Address of the public HTTP port. Anything but loopback exposes the API without TLS."""
    port: int = 8080
    """Public HTTP port. 0 picks a free one."""
    grpc_port: int = 10081
    """Port for gRPC (without TLS). 0 picks a free one, and so does the default when ``port`` is 0."""
    tls: bool = False
    """Whether there is a TLS port too, with a certificate of this installation's own authority."""
    tls_port: int = 8443
    """Port for HTTP and gRPC over TLS. 0 picks a free one, and so does the default when ``port`` is 0."""
    proxy: bool = False
    """Whether there is a CONNECT proxy for NVIDIA's host names, which leads clients with fixed hosts here."""
    proxy_port: int = 8889
    """Port of that proxy. 0 picks a free one, and so does the default when ``port`` is 0."""
    gateways: int = 1
    """Gateway processes. This release runs exactly one."""
    single_process: bool = False
    """Run control and gateway in one process and one loop."""
    public_url: str = ""
    """What URLs handed out begin with, such as ``https://gpufn.example.com``. Empty: the address the client called."""
    stop_grace: float = 10.0
    """Seconds that requests in flight and instances are given to end when everything stops."""
    handover_grace: float = 300.0
    """Seconds that a gateway is given to end its requests when a successor has taken its place (SIGHUP)."""


@dataclass(frozen=True)
class DatabaseSettings:
    """Where what was accepted is kept."""

    url: str = ""
    """``sqlite:///PATH``, or ``postgresql://USER:PASSWORD@HOST/DATABASE`` (needs the extra ``gpufn[postgres]``). Empty:
    ``gpufn.db`` (SQLite) in the data directory."""
    connections: int = 10
    """Most connections to PostgreSQL that one process holds."""
    patience: float = 10.0
    """Seconds for which work is tried again while PostgreSQL is away; then it is refused with 503."""


@dataclass(frozen=True)
class ObjectSettings:
    """Where large things are kept: bodies, results, assets."""

    url: str = ""
    """``s3://bucket/prefix``, with the environment's credentials. Empty: ``objects`` in the data directory."""


@dataclass(frozen=True)
class AssetSettings:
    """Files that clients upload for their invocations."""

    max_bytes: int = 5 * 1024 * 1024 * 1024
    """Largest asset."""
    account_bytes: int = 50 * 1024 * 1024 * 1024
    """All assets of one account together."""
    keep: float = 86400.0
    """Seconds from an asset's creation to its deletion."""


@dataclass(frozen=True)
class GatewaySettings:
    """Limits and windows of the invocation plane. Values that a client can observe follow the reference."""

    queue_depth: int = 100_000
    """Requests that may wait for one version; one more is refused with 429 (invocation-plane page, section 9)."""
    poll_default: int = 60
    """Seconds a caller waits when it sends no ``NVCF-POLL-SECONDS``."""
    poll_default_sse: int = 1200
    """The same for a pexec call that accepts exactly ``text/event-stream``."""
    poll_max: int = 3600
    """Largest ``NVCF-POLL-SECONDS`` accepted."""
    poll_grace: float = 2.0
    """Seconds beyond the window before an unanswered call is given up with 504."""
    stream_wait: float = 30.0
    """Seconds a WebSocket or gRPC call waits for an instance; the ``NVCF-POLL-SECONDS`` of a WebSocket comes first."""
    grpc_slot_per_connection: bool = False
    """Let a client connection hold one slot for all its gRPC calls, as the reference does; else each call takes one."""
    grpc_streams_max: int = 1000
    """Calls that one client connection may have open at once on the gRPC port."""
    stream_idle: float = 600.0
    """Seconds without a byte in either direction after which a WebSocket is closed. 0: never."""
    stream_lifetime: float = 0.0
    """Seconds after which a WebSocket is closed even if it is in use. 0: never."""
    accepted_timeout: float = 3600.0
    """Seconds in which a call that was answered 202 must have its result; then it ends with an error."""
    attempts: int = 3
    """How often an accepted call is given to an instance: again when the instance or the gateway has died."""
    abandon: str = "never"
    """``reference``: a call that was answered 202 is cancelled when nobody asks for it for twice its window, at least
    10 s (invocation-plane page, section 7.2). ``never``: it runs to its end, and its result is kept."""
    lease: float = 5.0
    """Seconds of silence after which a gateway is taken for dead, and what it had accepted is taken over."""
    result_max_bytes: int = 1024 * 1024 * 1024
    """Largest body kept for a caller that was answered 202; a larger one ends as an error."""
    envelope_max_bytes: int = 64 * 1024 * 1024
    """Largest response of an ``exec`` call: it is held in memory to be wrapped."""
    envelopes_total_bytes: int = 256 * 1024 * 1024
    """Memory for all responses being wrapped."""
    head_max_bytes: int = 64 * 1024
    """Largest request line plus header block."""
    headers_max: int = 128
    """Most header lines in a request."""
    head_timeout: float = 30.0
    """Seconds a client may take to send a complete request head."""
    idle_timeout: float = 120.0
    """Seconds an idle keep-alive connection is held."""
    sse_keep_alive: float = 15.0
    """Seconds without an event after which a client that asked for events is sent a comment. 0: never."""
    output_directories: bool = True
    """Whether every request by path gets a directory for large results and for a progress file
    (``NVCF-LARGE-OUTPUT-DIR``). Without, the header names one that does not exist: right for functions that only
    answer, and it saves a third of what a small call costs the gateway.
    """
    connections_max: int = 20_000
    """Client connections held at once; one more is answered 503."""
    upstream_idle: int = 64
    """Idle connections kept per instance."""
    control_patience: float = 30.0
    """Seconds that a request for the control plane waits while control is being started again."""
    connect_timeout: float = 5.0
    """Seconds to connect to an instance or to control."""


@dataclass(frozen=True)
class ControllerSettings:
    """How the control loops work."""

    resync: float = 15.0
    """Seconds between two complete looks at everything."""
    attempts: int = 3
    """Failed instances after which a deployment that was never active ends in ERROR."""
    restart_base: float = 1.0
    """Seconds before the second restart of a failed instance. The first is at once; each later wait is doubled."""
    restart_cap: float = 60.0
    """Longest delay between two restarts, in seconds."""
    ready_timeout: float = 1800.0
    """Seconds an instance may take to become ready (the reference: 30 minutes)."""
    unhealthy_timeout: float = 1800.0
    """Seconds a ready instance may be unhealthy before it is replaced."""
    health_interval: float = 10.0
    """Seconds between two health checks of a ready instance."""
    drain_timeout: float = 120.0
    """Seconds an instance that is not wanted any more may take to finish its requests."""
    scale_down_drain_timeout: float = 3600.0
    """The same for an instance that went only because there is less load. Only idle ones are chosen, so that this
    bounds the one request that came at the last moment; it is the longest that a caller may wait."""
    stop_grace: float = 10.0
    """Seconds between the polite and the forcible end of an instance."""
    cluster_look: float = 5.0
    """Seconds between two looks whether a registered cluster answers."""
    cluster_lost_after: float = 60.0
    """Seconds of silence after which a cluster is given up: its instances are started anew elsewhere."""
    cluster_drain: float = 600.0
    """Seconds that instances of a cluster that is drained are kept for while others take their place elsewhere."""
    idle_to_zero: float = 300.0
    """Seconds without any request after which a specification with ``minInstances`` 0 has no instance."""
    keep_ended: float = 3600.0
    """Seconds for which ended instances and their logs are kept."""
    keep_events: float = 7 * 24 * 3600.0
    """Seconds for which events are kept."""
    events_max: int = 100_000
    """Events kept at most, over everything; the oldest go first."""
    keep_usage: float = 90 * 24 * 3600.0
    """Seconds for which usage by version and hour is kept."""
    keep_results: float = 3600.0
    """Seconds for which the result of a call that was answered 202 is kept for whoever asks."""


@dataclass(frozen=True)
class TaskSettings:
    """Limits of tasks. Values that a client can observe follow the reference (tasks page)."""

    ready_timeout: float = 7200.0
    """Seconds a running task may take to write its progress file. 0: no limit, for tasks that never write one."""
    silence_timeout: float = 300.0
    """Seconds that ``lastUpdatedAt`` in the progress file may be old before the task ends in ERRORED."""
    keep_ended: float = 604_800.0
    """Seconds for which ended tasks, their events, logs and results are kept."""
    rate: float = 100.0
    """Requests per second that an account may make about tasks, and each task may be asked about. 0: no limit."""


@dataclass(frozen=True)
class ProcessSettings:
    """The backend that runs functions as local processes. Not a security boundary."""

    enabled: bool = True
    """Whether images of the local catalog can run."""
    isolation: str = "auto"
    """``bubblewrap``: private /var/inf, /var/secrets and /tmp through bwrap; ``none``; ``auto``: if bwrap works."""
    warm: int = 2
    """Python interpreters started beforehand, so that functions that are plain Python programs start at once; each
    takes some 20 MB. 0: none."""
    log_max_bytes: int = 16 * 1024 * 1024
    """Log kept per instance; the older half goes when it is full."""


@dataclass(frozen=True)
class DockerSettings:
    """The backend that runs containers."""

    enabled: str = "auto"
    """``yes``, ``no``, or ``auto``: if a Docker or Podman socket answers."""
    socket: str = ""
    """The engine's socket. Empty: DOCKER_HOST, /var/run/docker.sock, or the user's Podman socket."""
    auth_file: str = ""
    """Registry credentials in Docker's ``config.json`` form. Empty: ``~/.docker/config.json`` when it exists."""
    memory: str = ""
    """Memory limit of each container, e.g. ``8g``. Empty: none."""
    cpus: float = 0.0
    """CPU limit of each container. 0: none."""
    pids: int = 4096
    """Process limit of each container."""


@dataclass(frozen=True)
class RegistrySettings:
    """The registries that credentials may be for, beside the well-known ones."""

    custom: str = ""
    """More registries of images and charts, ``name=host`` each, separated by commas: ``Harbor=harbor.example.com``."""


@dataclass(frozen=True)
class ClusterSettings:
    """The cluster that this machine is."""

    name: str = "local"
    """Name of the cluster and of its group, the ``backend`` of deployment specifications."""
    provider: str = "ON-PREM"
    """First part of instance-type names: ``ON-PREM.GPU.H100_1x``."""
    region: str = "local"
    """Shown to instances as NVCF_REGION."""
    zone: str = ""
    """Its availability zone. Empty: its name."""
    attributes: str = ""
    """What a specification may ask of it by ``attributes``: names, separated by commas."""
    stands_for_any: bool = True
    """While it is the only cluster, take it for any cluster, region, zone and attribute that a specification names, so
    that one written for NVCF runs here. Where there are more, names mean what they say."""
    emulate_gpus: bool = True
    """Offer emulated GPUs where real ones are missing, so that specifications written for NVCF deploy anywhere."""


@dataclass(frozen=True)
class IdentitySettings:
    """Accounts, and tokens that are no API keys."""

    issuer: str = "http://api.localhost"
    """``iss`` of the tokens that this installation makes: the URL under which verifiers reach its API."""
    admin_client: str = "ncp"
    """``sub`` of admin tokens: a client of the installation's own account (auth page, section 6.1)."""
    token_ttl: float = 3600.0
    """Seconds until an admin token expires."""
    open_issuer: bool = False
    """Give an admin token to whoever asks without a credential, as the reference does and ``nvcf-cli init`` needs. Only
    where everybody who reaches the port may do everything."""
    issuers: str = ""
    """File that lists other issuers whose tokens are believed (OpenID Connect), see docs/identity.md. Empty:
    ``issuers.toml`` in the data directory, if there is one."""


@dataclass(frozen=True)
class ExternalIssuer:
    """One ``[[issuer]]`` of the file that ``identity.issuers`` names."""

    issuer: str
    """``iss``, compared exactly."""
    audience: str
    """What must be among ``aud``."""
    jwks_url: str = ""
    """Where its keys are. Empty: where its OpenID configuration says."""
    scopes_claim: str = "scopes"
    """The claim that holds scopes: a list, or a text with blanks between them."""
    account: str = ""
    """The account of all its clients. Empty: the one that each client (``sub``) was associated with."""
    admin: bool = False
    """Whether it may grant ``admin:`` scopes and account_setup."""


@dataclass(frozen=True)
class LogSettings:
    """Logs of the platform itself."""

    level: str = "info"
    """debug, info, warning or error."""
    format: str = "auto"
    """``text``, ``json``, or ``auto``: text on a terminal."""


@dataclass(frozen=True)
class Settings:
    """The root of the tree."""

    data: Path = field(default_factory=lambda: Path(platformdirs.user_data_dir("gpufn")))
    """Directory of everything that is kept: database, logs, images, keys. Mode 0700."""
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    objects: ObjectSettings = ObjectSettings()
    assets: AssetSettings = AssetSettings()
    gateway: GatewaySettings = GatewaySettings()
    controllers: ControllerSettings = ControllerSettings()
    tasks: TaskSettings = TaskSettings()
    process: ProcessSettings = ProcessSettings()
    docker: DockerSettings = DockerSettings()
    registries: RegistrySettings = RegistrySettings()
    cluster: ClusterSettings = ClusterSettings()
    identity: IdentitySettings = IdentitySettings()
    log: LogSettings = LogSettings()
