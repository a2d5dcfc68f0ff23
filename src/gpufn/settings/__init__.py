"""The settings of the program: the tree, and how it is read.

Sources, later ones win: the defaults, ``gpufn.toml`` in the data directory (or ``--config FILE``), variables named
``GPUFN_SECTION__FIELD``, command-line flags. Unknown names are errors.
"""

from gpufn.settings.reading import ClientSettings, Loaded, get, load, load_client, load_issuers, names, shown
from gpufn.settings.tree import (
    AssetSettings,
    ClusterSettings,
    ControllerSettings,
    DatabaseSettings,
    DockerSettings,
    ExternalIssuer,
    GatewaySettings,
    IdentitySettings,
    LogSettings,
    ObjectSettings,
    ProcessSettings,
    RegistrySettings,
    ServerSettings,
    Settings,
    TaskSettings,
)

__all__ = [
    "AssetSettings",
    "ClientSettings",
    "ClusterSettings",
    "ControllerSettings",
    "DatabaseSettings",
    "DockerSettings",
    "ExternalIssuer",
    "GatewaySettings",
    "IdentitySettings",
    "Loaded",
    "LogSettings",
    "ObjectSettings",
    "ProcessSettings",
    "RegistrySettings",
    "ServerSettings",
    "Settings",
    "TaskSettings",
    "get",
    "load",
    "load_client",
    "load_issuers",
    "names",
    "shown",
]
