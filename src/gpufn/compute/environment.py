"""The variables that the platform gives to every instance (invocation-plane page, section 10.3)."""

from __future__ import annotations

from gpufn.compute.backend import LaunchRequest


def platform_environment(request: LaunchRequest) -> dict[str, str]:
    """All ``NVCF_*`` variables. They win over the user's: the prefix is reserved."""
    return {
        "NVCF_BACKEND": request.backend,
        "NVCF_ENV": "local",
        "NVCF_FUNCTION_ID": request.function_id,
        "NVCF_FUNCTION_NAME": request.function_name,
        "NVCF_FUNCTION_VERSION_ID": request.version_id,
        "NVCF_INSTANCETYPE": request.instance_type,
        "NVCF_INSTANCETYPE_VALUE": request.instance_type_value,
        "NVCF_NCA_ID": request.nca_id,
        "NVCF_REGION": request.region,
    }
