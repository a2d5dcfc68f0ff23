"""``gpufn env``: what ``eval "$(gpufn env)"`` sets so that clients of NVCF use this installation.

Which client reads which variable: clients page, sections 3, 5, 6, 7, 9 and 11.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, data_option, output_options
from gpufn.client.discovery import Ports, admin_key, answers, checked, running_ports, running_url
from gpufn.client.errors import NotRunning
from gpufn.model.ids import DEFAULT_ACCOUNT


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    data_option(parser)
    parser.add_argument("--key", help="API key to export (default: the admin key of the installation)")
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Print the exports of the installation that runs on the data directory."""
    data = session.data
    url = running_url(data)
    option = f" --data {data}" if session.args.data else ""
    if url is None or not answers(checked(url)):
        raise NotRunning(f"gpufn is not running on {data}", fix=f"start it with `gpufn up{option}`")
    key = session.args.key or admin_key(data)
    if key is None:
        fix = "pass --key, or restore the file"
        raise Failed(f"{data / 'admin.key'} is not there, so there is no key to export", fix=fix, exit=Exit.REFUSED)
    groups = variables(url, running_ports(data), key, data)
    if session.args.json:
        session.console.json({name: value for _, values in groups for name, value in values.items()})
        return 0
    for comment, values in groups:
        session.console.line(f"# {comment}")
        for name, value in values.items():
            session.console.line(f"export {name}={shlex.quote(value)}")
    return 0


def variables(url: str, ports: Ports, key: str, data: Path) -> list[tuple[str, dict[str, str]]]:
    """Every variable, by the client that reads it. No name occurs twice."""
    org = str(DEFAULT_ACCOUNT)
    return [
        ("the gpufn command line", {"GPUFN_URL": url, "GPUFN_API_KEY": key, "GPUFN_DATA": str(data)}),
        (
            "nvcf-python and nvcf-node; NVCF_BASE_URL also cosmos-curate",
            {"NVCF_BASE_URL": url, "NVCF_AUTH_TOKEN": key},
        ),
        (
            "ngcsdk and the ngc CLI (releases from 4 on turn http into https: start with `gpufn up --tls`)",
            {
                "NGC_CLI_API_URL": ports.tls or url,
                "NGC_CLI_AUTH_URL": ports.tls or url,
                "NGC_CLI_API_KEY": key,
                "NGC_CLI_ORG": org,
                "NGC_CLI_TEAM": "no-team",
            },
        ),
        (
            "nvcf-cli; NVCF_API_KEY also garak",
            {
                "NVCF_BASE_HTTP_URL": url,
                "NVCF_INVOKE_URL": url,
                **({"NVCF_BASE_GRPC_URL": ports.grpc} if ports.grpc else {}),
                "NVCF_TOKEN": key,
                "NVCF_API_KEY": key,
                "INVOKE_HOST": "invocation.localhost",
                "API_KEYS_SERVICE_URL": url,
                "API_KEYS_ADMIN_SERVICE_URL": url,
            },
        ),
        (
            "nvcf-cli, services this release does not have: a clear 404 from here instead of a call to somewhere else",
            {
                "NVCF_BASE_NVCT_URL": url,
                "NVCF_ICMS_URL": url,
            },
        ),
        ("the Terraform provider ngc", {"NGC_ENDPOINT": url, "NGC_API_KEY": key, "NGC_ORG": org}),
        ("cosmos-curate", {"NGC_NVCF_API_KEY": key, "NGC_NVCF_ORG": org}),
        *_trust(ports, data),
    ]


def _trust(ports: Ports, data: Path) -> list[tuple[str, dict[str, str]]]:
    """What makes clients trust this installation, and reach it under names that are fixed in them."""
    if ports.tls is None and ports.proxy is None:
        return []
    bundle, authority = str(data / "tls" / "bundle.pem"), str(data / "tls" / "ca.pem")
    trusted = dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"), bundle)
    groups = [("the usual authorities and this installation's", trusted | {"NODE_EXTRA_CA_CERTS": authority})]
    if ports.proxy is not None:
        comment = "clients whose hosts are fixed; any other https host is refused: `unset HTTPS_PROXY` to reach those"
        groups.append((comment, {"HTTPS_PROXY": ports.proxy, "NO_PROXY": "localhost,127.0.0.1,::1"}))
    return groups
