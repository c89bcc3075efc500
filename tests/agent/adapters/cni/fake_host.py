"""A plugin host in a few lines: runs the plugins of its directory, or misbehaves as a file beside it says."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(sys.argv[0]).parent
MODE = HERE / "mode"
LOCK = threading.Lock()


def answer(document: object) -> None:
    with LOCK:
        os.write(0, json.dumps(document).encode() + b"\n")


def mode() -> str:
    return MODE.read_text() if MODE.exists() else ""


def carry_out(request: dict) -> None:
    replies = []
    timed_out = False
    until = time.monotonic() + request["deadline_ms"] / 1000
    for call in request["calls"]:
        try:
            ended = subprocess.run(
                [str(HERE / call["type"])],
                env={**call["env"], "PATH": "/usr/bin:/bin"},
                input=json.dumps(call["config"]),
                capture_output=True,
                text=True,
                timeout=max(until - time.monotonic(), 0.001),
                check=False,
            )
        except subprocess.TimeoutExpired:
            timed_out = True
            break
        replies.append({"exit": ended.returncode, "stdout": ended.stdout, "stderr": ended.stderr})
        if ended.returncode and request["stop_on_error"]:
            break
    answer({"id": request["id"], "replies": replies, "timed_out": timed_out})


def misbehave(request: dict) -> None:
    match mode():
        case "die":
            os.write(2, b"Traceback: the fake host falls over\n")
            os._exit(3)
        case "die leaving a child":
            child = subprocess.Popen(["sleep", "300"], process_group=0)
            (HERE / "child").write_text(f"{child.pid}\n")
            os._exit(3)
        case "rubbish":
            os.write(0, b"hello there\n")
        case "endless":
            os.write(0, b"x" * 70_000_000)
        case "unknown id":
            answer({"id": request["id"] + 1000, "replies": []})
        case "no list":
            answer({"id": request["id"], "replies": {}})
        case "too many":
            answer({"id": request["id"], "replies": [{"exit": 0}] * 9})
        case "text status":
            answer({"id": request["id"], "replies": [{"exit": "0"}]})
        case "refuse":
            answer({"id": request["id"], "replies": [], "timed_out": False, "error": "cannot fork"})
        case "silent":
            return
        case "pieces":
            for byte in json.dumps({"id": request["id"], "replies": [{"exit": 0, "stdout": "{}"}]}).encode():
                os.write(0, bytes((byte,)))
            os.write(0, b"\n")
        case _:
            carry_out(request)


received = b""
while chunk := os.read(0, 65536):
    *lines, received = (received + chunk).split(b"\n")
    for line in lines:
        (HERE / "requests").open("ab").write(line + b"\n")
        threading.Thread(target=misbehave, args=(json.loads(line),), daemon=True).start()
if mode() == "stubborn":
    time.sleep(300)
