"""The control plane's route table: every path, who may call it, and the function that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from gpufn.api import (
    accounts,
    across,
    assets,
    audit,
    authorizations,
    cluster_lists,
    cluster_management,
    clusters,
    deployments,
    events,
    exec as execution,
    functions,
    health,
    keys,
    keyservice,
    logs,
    ngc,
    openapi,
    operations,
    problems,
    queues,
    registries,
    results,
    secrets,
    skyway,
    task_access,
    task_log_pages,
    task_logs,
    task_results,
    task_usage,
    tasks,
    telemetries,
    tokens,
    usage,
    why,
)
from gpufn.api.audit import Audit
from gpufn.api.body import StrictRoute
from gpufn.api.context import Context
from gpufn.api.encoding import encoded
from gpufn.api.front import Authentication, Boundary, Cors
from gpufn.api.security import guarded
from gpufn.wire.accounts import ListAccountsResponse
from gpufn.wire.assets import AssetsResponse
from gpufn.wire.base import Wire
from gpufn.wire.deployment_views import ListDeploymentsResponse
from gpufn.wire.function_views import ListFunctionIdsResponse, ListFunctionsResponse
from gpufn.wire.objects import RESULTS

FUNCTIONS = "/v2/nvcf/functions"
VERSION = "/functions/{functionId}/versions/{functionVersionId}"
DEPLOYMENT = "/v2/nvcf/deployments" + VERSION
SHARING = "/v2/nvcf/authorizations/functions/{functionId}"
SHARING_VERSION = "/v2/nvcf/authorizations" + VERSION
TELEMETRY = "/v2/nvcf/telemetries"
CREDENTIAL = "/v2/nvcf/registry-credentials"
OWN = "/v2/gpufn"
TASKS = "/v1/nvct/tasks"
TASK = TASKS + "/{taskId}"
RESULT_FILES = OWN + "/tasks/{taskId}/results/{resultId}/files"

LIST = ("list_functions", "list_functions_details")
DETAILS = ("list_functions_details",)
REGISTER = ("register_function",)
UPDATE = ("update_function",)
DELETE = ("delete_function",)
DEPLOY = ("deploy_function",)
QUEUE = ("queue_details",)
AUTHORIZE = ("authorize_clients",)
GROUPS = ("list_cluster_groups",)
SECRETS = ("update_secrets",)
TELEMETRIES = ("manage_telemetries",)
REGISTRIES = ("manage_registry_credentials",)
TASK_DETAILS = ("task_details",)
INVOKE = ("invoke_function",)
KEYS = ("manage_keys",)
SUPER = ("account_setup",)
ADMIN_DEPLOY = ("admin:deploy_function",)
ANY_KEY: tuple[str, ...] = ()
OPEN = None


@dataclass(frozen=True)
class Route:
    """One row. ``scopes``: the caller needs one of them; empty, any key will do; None, not even a key."""

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    scopes: tuple[str, ...] | None
    across: bool = False
    """Whether it works in the account that its path names (``api.across``)."""
    answer: type[Wire] | None = None
    """The body of what is answered, where the handler makes its own response: lists are sent as they are read."""


ACCOUNT = "/v2/nvcf/accounts/{ncaId}"
INSTANCE = "/v2/nvcf/instances/{instanceId}"
ACCOUNTS = (
    Route("GET", "/v2/nvcf/accounts", accounts.list_accounts, SUPER, answer=ListAccountsResponse),
    Route("POST", ACCOUNT, accounts.create_account, SUPER),
    Route("GET", ACCOUNT, accounts.get_account, SUPER),
    Route("PATCH", ACCOUNT, accounts.update_account, SUPER),
    Route("DELETE", ACCOUNT, accounts.delete_account, SUPER),
    Route("PATCH", ACCOUNT + "/clients/associate", accounts.associate_client, SUPER),
    Route("PATCH", ACCOUNT + "/clients/disassociate", accounts.disassociate_client, SUPER),
    Route("GET", "/v2/nvcf/clients/{clientId}", accounts.get_client, SUPER),
    Route("POST", "/v1/admin/keys", tokens.issue_admin_token, SUPER),
    Route("GET", OWN + "/audit", audit.list_records, SUPER),
    Route("GET", "/v2/nvcf/sidecars/goldenimages", operations.golden_images, ADMIN_DEPLOY),
    Route("DELETE", INSTANCE, operations.delete_instance, ("admin:delete_function",)),
)
"""Above all accounts: the only routes for a client that has none itself."""

CLUSTER = ("cluster-management", "account_setup")
SI = "/v1/si/accounts/{ncaId}"
CLUSTER_LISTS = (
    Route("GET", SI + "/clusterGroups", cluster_lists.list_cluster_groups, ("cluster_listing", *CLUSTER)),
    Route("GET", SI + "/gpus", cluster_lists.list_gpus, ("gpu_listing", *CLUSTER)),
    Route("GET", SI + "/regions", cluster_lists.list_regions, ("regions_listing", *CLUSTER)),
    Route("GET", SI + "/clusterNames", cluster_lists.list_cluster_names, ("clusters_listing", *CLUSTER)),
    Route("GET", SI + "/attributes", cluster_lists.list_attributes, ("attributes_listing", *CLUSTER)),
    Route("GET", SI + "/instanceTypes", cluster_lists.list_instance_types, ("instance_types", *CLUSTER)),
)
CLUSTERS = CLUSTER_LISTS + tuple(
    Route(method, base + path, handler, CLUSTER)
    for base in ("/v1/accounts/{ncaId}", SI)
    for method, path, handler in (
        ("POST", "/clusters", cluster_management.create_cluster),
        ("GET", "/clusters", cluster_management.list_clusters),
        ("GET", "/clusters/{clusterId}", cluster_management.get_cluster),
        ("PUT", "/clusters/{clusterId}", cluster_management.update_cluster),
        ("DELETE", "/clusters/{clusterId}", cluster_management.delete_cluster),
        ("PUT", "/clusters/{clusterId}/mode", cluster_management.set_cluster_mode),
        ("GET", "/clusterVersions", cluster_management.cluster_versions),
    )
)
"""Clusters of the account in the path (clusters page, section 2.1); ``mode`` is gpufn's own. Who may ask for an admin
token, which has the scope, may do so without."""

USER_KEYS = "/v1/service-admin/users/{userId}/keys"
KEY_SERVICE = (
    Route("POST", "/v1/keys", keyservice.create_key, KEYS),
    Route("GET", "/v1/keys", keyservice.list_keys, KEYS),
    Route("GET", "/v1/keys/{keyId}", keyservice.get_key, KEYS),
    Route("DELETE", "/v1/keys/{keyId}", keyservice.delete_key, KEYS),
    Route("PUT", "/v1/keys/{keyId}/authorizations", keyservice.set_authorizations, KEYS),
    Route("GET", USER_KEYS, keyservice.list_user_keys, KEYS),
    Route("GET", USER_KEYS + "/{keyId}", keyservice.get_user_key, KEYS),
    Route("DELETE", USER_KEYS + "/{keyId}", keyservice.delete_user_key, KEYS),
    Route("PUT", USER_KEYS + "/{keyId}/status", keyservice.set_key_status, KEYS),
    Route("PUT", "/v1/service-admin/users/{userId}/suspend", keyservice.suspend_user_keys, KEYS),
    Route("POST", "/v1/admin/lookup", keyservice.look_up_key, KEYS),
    Route("GET", "/v1/admin/users/{userId}/keys", keyservice.list_all_user_keys, KEYS),
    Route("DELETE", "/v1/admin/users/{userId}/keys", keyservice.delete_all_user_keys, KEYS),
    Route("GET", "/v1/admin/users/{userId}", keyservice.get_user, KEYS),
    Route("PUT", "/v1/admin/users/{userId}/status", keyservice.set_user_status, KEYS),
    Route("POST", "/v1/introspect", keyservice.introspect, ANY_KEY),
    Route("POST", "/v1/namespaces/{namespace}/evaluations/{policyName}", keyservice.evaluate, ANY_KEY),
    Route("GET", "/v1/services", keyservice.list_services, ANY_KEY),
    Route("GET", "/v1/services/{serviceId}", keyservice.get_service, ANY_KEY),
)
"""The API-key service."""

IN_AN_ACCOUNT = (
    *KEY_SERVICE,
    Route("POST", FUNCTIONS, functions.create_function, REGISTER),
    Route("GET", FUNCTIONS, functions.list_functions, LIST, answer=ListFunctionsResponse),
    Route("GET", FUNCTIONS + "/ids", functions.list_function_ids, LIST, answer=ListFunctionIdsResponse),
    Route("POST", FUNCTIONS + "/{functionId}/versions", functions.create_version, REGISTER),
    Route("GET", FUNCTIONS + "/{functionId}/versions", functions.list_versions, LIST, answer=ListFunctionsResponse),
    Route("GET", "/v2/nvcf" + VERSION, functions.get_version, LIST),
    Route("PUT", "/v2/nvcf" + VERSION, functions.update_version, UPDATE),
    Route("PUT", "/v2/nvcf/metadata" + VERSION, functions.update_version, UPDATE),
    Route("DELETE", "/v2/nvcf" + VERSION, functions.delete_version, DELETE),
    Route("PUT", "/v2/nvcf/ratelimit" + VERSION, functions.update_rate_limit, UPDATE),
    Route("DELETE", "/v2/nvcf/ratelimit" + VERSION, functions.clear_rate_limit, UPDATE),
    Route("POST", DEPLOYMENT, deployments.create_deployment, DEPLOY),
    Route("GET", DEPLOYMENT, deployments.get_deployment, DEPLOY),
    Route("PUT", DEPLOYMENT, deployments.replace_deployment, DEPLOY),
    Route("DELETE", DEPLOYMENT, deployments.delete_deployment, DEPLOY),
    Route("GET", "/v2/nvcf/deployments", deployments.list_deployments, DEPLOY, answer=ListDeploymentsResponse),
    Route("GET", "/v2/nvcf/deployments/{deploymentId}", deployments.get_deployment_by_id, DEPLOY),
    Route(
        "PATCH",
        "/v2/nvcf/deployments/{deploymentId}/gpu-specifications/{gpuSpecId}",
        deployments.patch_specification,
        DEPLOY,
    ),
    Route("GET", "/v2/nvcf/queues/functions/{functionId}", queues.function_queues, QUEUE),
    Route("GET", "/v2/nvcf/queues" + VERSION, queues.version_queue, QUEUE),
    Route("POST", "/v2/nvcf/tokens/functions", tokens.delegate_functions, INVOKE),
    Route("POST", "/v2/nvcf/tokens/functions/{functionId}", tokens.delegate_function, INVOKE),
    Route("POST", "/v2/nvcf/tokens" + VERSION, tokens.delegate_version, INVOKE),
    Route("GET", SHARING, authorizations.function_authorizations, AUTHORIZE),
    Route("POST", SHARING, authorizations.set_function_parties, AUTHORIZE),
    Route("DELETE", SHARING, authorizations.clear_function_parties, AUTHORIZE),
    Route("PATCH", SHARING + "/add", authorizations.add_function_party, AUTHORIZE),
    Route("PATCH", SHARING + "/remove", authorizations.remove_function_party, AUTHORIZE),
    Route("GET", SHARING_VERSION, authorizations.version_authorizations, AUTHORIZE),
    Route("POST", SHARING_VERSION, authorizations.set_version_parties, AUTHORIZE),
    Route("DELETE", SHARING_VERSION, authorizations.clear_version_parties, AUTHORIZE),
    Route("PATCH", SHARING_VERSION + "/add", authorizations.add_version_party, AUTHORIZE),
    Route("PATCH", SHARING_VERSION + "/remove", authorizations.remove_version_party, AUTHORIZE),
    Route("GET", "/v2/nvcf/supportedGpus", clusters.supported_gpus, REGISTER),
    Route("GET", "/v2/nvcf/clusterGroups", clusters.cluster_groups, GROUPS),
    Route("PUT", "/v2/nvcf/secrets" + VERSION, secrets.update_secrets, SECRETS),
    Route("POST", OWN + "/master-key/rotate", secrets.rotate_master_key, SUPER),
    Route("PUT", "/v2/nvcf/secrets/telemetries/{telemetryId}", telemetries.update_telemetry_secret, SECRETS),
    Route("POST", TELEMETRY, telemetries.create_telemetry, TELEMETRIES),
    Route("GET", TELEMETRY, telemetries.list_telemetries, TELEMETRIES),
    Route("GET", TELEMETRY + "/{telemetryId}", telemetries.get_telemetry, TELEMETRIES),
    Route("DELETE", TELEMETRY + "/{telemetryId}", telemetries.delete_telemetry, TELEMETRIES),
    Route("POST", CREDENTIAL, registries.create_credential, REGISTRIES),
    Route("GET", CREDENTIAL, registries.list_credentials, REGISTRIES),
    Route("GET", CREDENTIAL + "/{registryCredentialId}", registries.get_credential, REGISTRIES),
    Route("PATCH", CREDENTIAL + "/{registryCredentialId}", registries.update_credential, REGISTRIES),
    Route("DELETE", CREDENTIAL + "/{registryCredentialId}", registries.delete_credential, REGISTRIES),
    Route("GET", "/v2/nvcf/recognized-registries", registries.recognized_registries, REGISTRIES),
    Route("POST", "/v2/nvcf/assets", assets.create_asset, INVOKE),
    Route("GET", "/v2/nvcf/assets", assets.list_assets, INVOKE, answer=AssetsResponse),
    Route("GET", "/v2/nvcf/assets/{assetId}", assets.get_asset, INVOKE),
    Route("DELETE", "/v2/nvcf/assets/{assetId}", assets.delete_asset, INVOKE),
    Route("GET", "/v2/nvcf/assets/{assetId}/content-redirect", assets.asset_content, INVOKE),
    Route("PUT", assets.CONTENT, assets.put_content, OPEN),
    Route("GET", assets.CONTENT, assets.get_content, OPEN),
    Route("GET", RESULTS, results.get_result, OPEN),
    Route("POST", TASKS, tasks.create_task, ("launch_task",)),
    Route("GET", TASKS, tasks.list_tasks, ("list_tasks",)),
    Route("POST", TASKS + "/bulk", tasks.bulk_tasks, ("list_tasks",)),
    Route("GET", TASK, tasks.get_task, TASK_DETAILS),
    Route("POST", TASK + "/cancel", tasks.cancel_task, ("cancel_task",)),
    Route("DELETE", TASK, tasks.delete_task, ("delete_task",)),
    Route("PUT", "/v1/nvct/secrets/tasks/{taskId}", tasks.update_task_secrets, SECRETS),
    Route("GET", TASK + "/events", tasks.list_task_events, ("list_events",)),
    Route("GET", TASK + "/results", tasks.list_task_results, ("list_results",)),
    Route("POST", "/v1/nvct/logs/tasks/{taskId}", task_log_pages.query_task_logs, TASK_DETAILS),
    Route("GET", "/v1/nvct/logs/{jobId}", task_log_pages.get_task_log_page, TASK_DETAILS),
    Route("GET", "/v2/skyway/instances/tasks/{taskId}", task_access.task_instances, ("list_tasks",)),
    Route("GET", "/v2/skyway/logs/tasks/{taskId}", task_access.task_lines, ("list_tasks",)),
    Route("POST", "/v2/skyway/commands/tasks/{taskId}", task_access.task_command, ("launch_task",)),
    Route("GET", OWN + "/tasks/{taskId}/logs", task_logs.get_task_logs, TASK_DETAILS),
    Route("GET", RESULT_FILES, task_results.list_result_files, ("list_results",)),
    Route("GET", RESULT_FILES + "/{number}", task_results.get_result_file, ("list_results",)),
    Route("POST", OWN + "/keys", keys.create_key, KEYS),
    Route("GET", OWN + "/keys", keys.list_keys, KEYS),
    Route("DELETE", OWN + "/keys/{keyId}", keys.revoke_key, KEYS),
    Route("GET", OWN + VERSION + "/instances", logs.list_instances, DETAILS),
    Route("GET", OWN + VERSION + "/logs", logs.stream_logs, DETAILS),
    Route("POST", OWN + "/instances/{instanceId}/exec", execution.exec_in_instance, DEPLOY),
    Route("POST", "/v2/skyway/commands" + VERSION, execution.skyway_command, DEPLOY),
    Route("GET", "/v2/skyway/instances" + VERSION, skyway.skyway_instances, DETAILS),
    Route("GET", "/v2/skyway/logs" + VERSION, skyway.skyway_logs, DETAILS),
    Route("GET", OWN + "/usage", usage.get_usage, DETAILS),
    Route("GET", OWN + "/events", events.list_events, DETAILS),
    Route("GET", OWN + "/why/{id}", why.explain_any, DETAILS + TASK_DETAILS),
    Route("GET", OWN + "/why/{kind}/{id}", why.explain, DETAILS + TASK_DETAILS),
    Route("GET", OWN + "/status", health.status, LIST),
    Route("GET", "/v2/orgs", ngc.list_orgs, ANY_KEY),
    Route("GET", "/v2/orgs/{org}", ngc.get_org, ANY_KEY),
    Route("GET", "/v2/org/{org}/teams", ngc.list_teams, ANY_KEY),
    Route("GET", "/v2/org/{org}/repos/{rest:path}", ngc.repository, ANY_KEY),
    Route("GET", "/v2/org/{org}/team/{team}/repos/{rest:path}", ngc.team_repository, ANY_KEY),
    Route("POST", "/v3/keys/get-caller-info", ngc.caller_info, OPEN),
    Route("GET", "/health", health.health, OPEN),
    Route("GET", "/info", health.info, OPEN),
    Route("GET", "/openapi.json", openapi.openapi, OPEN),
    Route("GET", "/v3/openapi", openapi.openapi, OPEN),
    Route("GET", "/docs", openapi.docs, OPEN),
    Route("GET", "/.well-known/jwks.json", tokens.signing_keys, OPEN),
    Route("GET", "/.well-known/openid-configuration", tokens.openid_configuration, OPEN),
)

ALONE = ("/v2/nvcf/supportedGpus", "/v2/nvcf/tokens/functions")
"""Paths without a twin for admins begin so (control-plane page, section 2)."""


def _twins() -> Iterator[Route]:
    """Every route of NVCF's own, and those about keys, once more for admins."""
    for route in IN_AN_ACCOUNT:
        theirs = route.path.startswith(("/v2/nvcf/", "/v1/nvct/", OWN + "/keys")) and not route.path.startswith(ALONE)
        if theirs and route.scopes:
            path, scopes = across.twin_path(route.path), across.twin_scopes(route.scopes)
            yield replace(route, path=path, scopes=scopes, across=True)


ADMINS_ONLY = (
    Route("GET", "/v1/nvct/accounts/{ncaId}/usage/gpus", task_usage.get_gpu_usage, ("admin:launch_task",), across=True),
    Route("GET", ACCOUNT + "/usage/gpus", operations.get_gpu_usage_of_functions, ADMIN_DEPLOY, across=True),
    Route("PUT", ACCOUNT + "/rolloverWorkers" + VERSION, operations.roll_over, ADMIN_DEPLOY, across=True),
)
"""What has no counterpart for keys (control-plane page, section 20; tasks page, section 2)."""

ROUTES = (*IN_AN_ACCOUNT, *ACCOUNTS, *_twins(), *ADMINS_ONLY, *CLUSTERS)


def build(context: Context) -> FastAPI:
    """The application. It holds no state of its own: everything is in ``context``."""
    app = FastAPI(
        title="gpufn",
        version=context.version,
        description="The NVIDIA Cloud Functions (NVCF) API, served from your own machines.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.router.route_class = StrictRoute
    for route in ROUTES:
        _add(app, route)
    problems.install(app)
    app.add_middleware(Audit)
    app.add_middleware(Authentication)
    app.add_middleware(Boundary)
    app.add_middleware(Cors)
    return app


def _add(app: FastAPI, route: Route) -> None:
    handler = route.handler
    if route.across and route.scopes:
        words = {"missing": "Does not exist"} if route.path.startswith("/v1/nvct/") else {}  # tasks page, section 2
        handler = across.across(handler, route.scopes, **words)
    elif route.scopes is not None:
        handler = guarded(handler, route.scopes, in_account=route not in (*ACCOUNTS, *CLUSTERS))
    name = handler.__name__ + ("_metadata" if "/metadata/" in route.path else "")
    name += "_of_service" if handler.__module__.endswith("keyservice") else ""
    name += "_of_si" if route.path.startswith("/v1/si/") else ""
    name += "_across" if route.across else ""
    name += "_v3" if route.path == "/v3/openapi" else ""
    app.add_api_route(
        route.path,
        encoded(handler),
        methods=[route.method],
        name=name,
        operation_id=name,
        tags=[handler.__module__.rpartition(".")[2]],
        response_model_exclude_none=True,
        openapi_extra=openapi.security(route.scopes),
        responses={"default": openapi.PROBLEM},
        **_answer(route),
    )


def _answer(route: Route) -> dict[str, Any]:
    """What FastAPI cannot see of a handler that makes its own response: changes are answered 204, pages are HTML."""
    if route.answer is not None:
        return {"response_model": route.answer}
    made = get_type_hints(route.handler).get("return")
    if made is HTMLResponse:
        return {"response_class": HTMLResponse}
    if route.path == INSTANCE or (made is Response and route in CLUSTERS):  # 200 without a body
        return {"response_class": Response}
    changes = made is Response and route.method != "GET" and route.path != assets.CONTENT
    return {"status_code": 204} if changes else {}
