"""The files of results: listed page by page, read as they were kept."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from api_building import RANDOM_ID, Installation, an_installation, bearer

from gpufn.model.access import Resource
from gpufn.model.ids import new_id
from gpufn.model.task import ResultFile, TaskResult
from gpufn.store import tasks

BODY = {
    "name": "finetune-1",
    "gpuSpecification": {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x"},
    "containerImage": "nvcr.io/acme/trainer:2.1",
    "resultHandlingStrategy": "NONE",
}
BIG = bytes(range(256)) * 4096
"""More than the object store gives in one piece."""
CONTENTS = {"a.bin": BIG, "deep/naïve name.txt": b"text", "empty": b""}


@dataclass
class Kept:
    """A task with one result, and where its files are."""

    it: Installation
    task_id: str
    result_id: str

    @property
    def url(self) -> str:
        return f"/v2/gpufn/tasks/{self.task_id}/results/{self.result_id}/files"

    @property
    def prefix(self) -> str:
        return f"tasks/{self.task_id}/{self.result_id}"


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    async with an_installation() as it:
        answer = await it.client.post("/v1/nvct/tasks", json=BODY)
        found = Kept(it, answer.json()["task"]["id"], new_id())
        files = []
        for n, (path, content) in enumerate(CONTENTS.items()):
            key = f"{found.prefix}/{n}"
            await it.context.objects.put(key, content)
            files.append(ResultFile(path, len(content), hashlib.sha256(content).hexdigest(), key))

        def write(tx: Any) -> None:
            task = tasks.get(tx, found.task_id)
            assert task is not None
            tasks.add_result(tx, TaskResult(found.result_id, task.id, "r", {}, it.clock(), tuple(files)))

        await it.context.db.run(write)
        yield found


async def test_files_are_listed_page_by_page(kept: Kept) -> None:
    """Every file has number, path, size and digest; limit and cursor are there while another page is."""
    first = (await kept.it.client.get(kept.url, params={"limit": 2})).json()
    rest = (await kept.it.client.get(kept.url, params={"cursor": first["cursor"]})).json()

    assert (first["limit"], rest.keys()) == (2, {"files"})
    listed = first["files"] + rest["files"]
    assert [(f["number"], f["path"], f["size"]) for f in listed] == [
        (n, path, len(content)) for n, (path, content) in enumerate(CONTENTS.items())
    ]
    assert listed[0]["sha256"] == hashlib.sha256(BIG).hexdigest()


async def test_files_are_read_as_they_were_kept(kept: Kept) -> None:
    """The bytes come back, with their number and a name that no browser shows as a page."""
    for n, content in enumerate(CONTENTS.values()):
        answer = await kept.it.client.get(f"{kept.url}/{n}")
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert answer.headers["content-type"] == "application/octet-stream"
    assert "na%C3%AFve%20name.txt" in (await kept.it.client.get(f"{kept.url}/1")).headers["content-disposition"]


@pytest.mark.parametrize("cursor", ["", "xyz", "00", "-0000001", "0000000G", "0" * 9])
async def test_a_cursor_of_somebody_else(kept: Kept, cursor: str) -> None:
    """What we did not give as a cursor is refused."""
    answer = await kept.it.client.get(kept.url, params={"cursor": cursor})

    assert (answer.status_code, answer.json()["detail"]) == (400, f"Invalid cursor: '{cursor}'")


async def test_a_cursor_behind_the_end_is_an_empty_page(kept: Kept) -> None:
    """Nothing comes after the last file."""
    assert (await kept.it.client.get(kept.url, params={"cursor": "ffffffff"})).json() == {"files": []}


async def test_files_that_are_not_there(kept: Kept) -> None:
    """An unknown task, result or number, and a content that was deleted, are 404; what is no number is 400."""
    client = kept.it.client
    urls = [
        kept.url.replace(kept.task_id, RANDOM_ID),
        kept.url.replace(kept.result_id, RANDOM_ID),
        f"{kept.url}/3",
    ]
    assert [(await client.get(url)).status_code for url in urls] == [404, 404, 404]
    assert [(await client.get(f"{kept.url}/{bad}")).status_code for bad in ("-1", "x", str(2**40))] == [400] * 3
    await kept.it.context.objects.delete(f"{kept.prefix}/0")
    gone = await client.get(f"{kept.url}/0")
    assert (gone.status_code, "not there any more" in gone.json()["detail"]) == (404, True)


async def test_who_may_read_files(kept: Kept) -> None:
    """The scope list_results and a reach over the task are needed, as for the list of results."""
    client = kept.it.client
    other = await kept.it.a_key(scopes=("list_tasks",))
    elsewhere = await kept.it.a_key(scopes=("list_results",), resources=(Resource("task", RANDOM_ID),))
    reader = await kept.it.a_key(scopes=("list_results",), resources=(Resource("task", kept.task_id),))

    for url in (kept.url, f"{kept.url}/0"):
        statuses = [(await client.get(url, headers=bearer(key))).status_code for key in (other, elsewhere, reader)]
        assert statuses == [403, 403, 200]
