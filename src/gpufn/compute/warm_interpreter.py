"""The program of an interpreter that is started before anybody needs it (``warm.py`` starts it; it imports none of us).

It loads what most functions load, says so, and waits on its standard input, a socket, to be told which program to be.
Then it becomes that program, as ``python app.py`` would have: its directory, variables, arguments and output. What the
kernel shows of it to others (its variables, by which ``process_tree`` finds it, and its command) is written over.
When the socket closes first, its master is gone, and it ends.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this directory: nothing in it is to be found by the program's imports, or by those below

import builtins
import ctypes
import json
import os
import socket
import struct
import time
import types
from importlib.machinery import SourceFileLoader
from typing import Any

MODULES = (
    "asyncio",
    "concurrent.futures",
    "http.server",
    "json",
    "logging",
    "signal",
    "socketserver",
    "threading",
    "urllib.request",
)
"""Loaded beforehand. A program that has a module of the same name as one of these or what they load cannot be this."""
HEAD = struct.Struct("!I")
"""The length of an order, in bytes."""
END = b"\n"
"""Ends what it says: the names of the modules that it has loaded."""
STARTS = (48, 50)
"""Fields of /proc/self/stat (proc(5)): where arguments and variables start; the next field of each: where they end."""


def loaded() -> set[str]:
    """Load them; the names of all top-level modules that are loaded then."""
    for name in MODULES:
        __import__(name)
    return {name.partition(".")[0] for name in sys.modules}


def main() -> None:
    """Wait, then be someone."""
    master = socket.socket(fileno=0)
    master.sendall(" ".join(sorted(loaded())).encode() + END)
    data, files, _, _ = socket.recv_fds(master, HEAD.size, 1)
    if len(data) < HEAD.size:
        sys.exit(0)
    content = b""
    while len(content) < HEAD.unpack(data)[0]:
        chunk = master.recv(65536)
        if not chunk:
            sys.exit(0)
        content += chunk
    master.detach()
    become(json.loads(content), files[0])


def become(order: dict[str, Any], output: int) -> None:
    """Be the program of ``order``, writing to ``output``."""
    variables = dict(order["environment"])
    if "PWD" in os.environ:  # bubblewrap says where it starts a program
        variables["PWD"] = order["directory"]
    os.environ.clear()
    os.environ.update(variables)
    arguments = list(order["arguments"])
    _show([[sys.executable, *arguments], [f"{name}={value}" for name, value in variables.items()]])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    time.tzset()
    os.chdir(order["directory"])
    script = arguments[0]
    sys.argv, sys.orig_argv = arguments, [sys.executable, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    sys.excepthook = _without_us
    module = types.ModuleType("__main__")
    path = os.path.abspath(script)
    module.__dict__.update(__file__=path, __builtins__=builtins, __loader__=SourceFileLoader("__main__", path))
    sys.modules["__main__"] = module
    with open(script, "rb") as file:
        program = compile(file.read(), path, "exec", dont_inherit=True)
    exec(program, module.__dict__)  # noqa: S102  (this is what it is for)


def _show(blocks: list[list[str]]) -> None:
    """Write over what the kernel shows of our arguments and variables; ``warm.py`` made room for it when it started us.

    The C library's variables are copies by now, so nothing in this process looks there any more.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    for field, texts in zip(STARTS, blocks, strict=True):
        start, end = (int(fields[at - 3]) for at in (field, field + 1))  # the first two are cut off
        content = b"".join(os.fsencode(text) + b"\0" for text in texts)
        if start and len(content) < end - start:
            ctypes.memmove(start, content.ljust(end - start, b"\0"), end - start)


def _without_us(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """A traceback begins where the program does."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    main()
