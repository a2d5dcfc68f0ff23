"""Results of a task in a bucket, through the whole program."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import s3_server
from installation import installed

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not s3_server.is_there(), reason=s3_server.WHY_NOT),
]
MEGABYTES = 40
JOB = f"""
import datetime, json, os
results, progress = os.environ["NVCT_RESULTS_DIR"], os.environ["NVCT_PROGRESS_FILE_PATH"]
os.mkdir(f"{{results}}/ckpt")
with open(f"{{results}}/ckpt/weights", "wb") as file:
    for number in range({MEGABYTES}):
        file.write(bytes([number]) * 1024 * 1024)
report = {{"percentComplete": 100, "name": "ckpt", "lastUpdatedAt": datetime.datetime.now(datetime.UTC).isoformat()}}
with open(progress + ".tmp", "w") as file:
    json.dump(report, file)
os.replace(progress + ".tmp", progress)
"""


def test_results_go_to_a_bucket_and_come_back(tmp_path: Path) -> None:
    """With objects.url and AWS's variables a large file is kept in parts, fetched whole, and gone with its task."""
    (tmp_path / "job.py").write_text(JOB)
    with s3_server.serving("results") as url:
        aws = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": url,
            "AWS_ALLOW_HTTP": "true",
            "GPUFN_OBJECTS__URL": "s3://results/gpufn",
        }
        with installed(tmp_path / "data", environment=aws) as here:
            ran = here.gpufn("task", "run", str(tmp_path / "job.py"), "--results", "UPLOAD")
            assert ran.returncode == 0, ran.stderr
            kept = s3_server.keys(url, "results")
            fetched = here.gpufn("task", "results", "job", "--to", str(tmp_path / "out"))
            assert fetched.returncode == 0, fetched.stderr
            assert not (here.data / "objects").exists() or not any((here.data / "objects").rglob("weights"))
            assert here.gpufn("task", "delete", "job").returncode == 0
            s3_server.until_empty(url, "results")

    assert len(kept) == 1
    assert kept[0].startswith("gpufn/tasks/")
    (file,) = (tmp_path / "out").rglob("weights")
    whole = b"".join(bytes([n]) * 1024 * 1024 for n in range(MEGABYTES))
    assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(whole).digest()
