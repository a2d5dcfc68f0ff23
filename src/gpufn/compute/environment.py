"""The variables that the platform gives to every instance.

For functions those of the invocation-plane page, section 10.3; for tasks those of the tasks page, section 10.
"""

from __future__ import annotations

from gpufn.compute.backend import LaunchRequest, TaskLaunch

TASK_DIR = "/var/task"
"""Where a task finds its directory."""


def platform_environment(request: LaunchRequest, *, task_dir: str = TASK_DIR) -> dict[str, str]:
    """All ``NVCF_*`` and ``NVCT_*`` variables. They win over the user's: the prefixes are reserved.

    ``task_dir`` is where the instance sees the directory of its task.
    """
    own = _of_function(request) if request.task is None else _of_task(request, request.task, task_dir)
    return own | {
        "NVCF_BACKEND": request.backend,
        "NVCF_ENV": "local",
        "NVCF_INSTANCETYPE": request.instance_type,
        "NVCF_INSTANCETYPE_VALUE": request.instance_type_value,
        "NVCF_REGION": request.region,
    }


def _of_function(request: LaunchRequest) -> dict[str, str]:
    return {
        "NVCF_FUNCTION_ID": request.function_id,
        "NVCF_FUNCTION_NAME": request.function_name,
        "NVCF_FUNCTION_VERSION_ID": request.version_id,
        "NVCF_NCA_ID": request.nca_id,
    }


def _of_task(request: LaunchRequest, task: TaskLaunch, task_dir: str) -> dict[str, str]:
    return {
        "NVCT_NCA_ID": request.nca_id,
        "NVCT_TASK_ID": task.id,
        "NVCT_TASK_NAME": task.name,
        "NVCT_RESULTS_DIR": f"{task_dir}/results",
        "NVCT_PROGRESS_FILE_PATH": f"{task_dir}/results/progress",
    }
