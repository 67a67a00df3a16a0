"""Run as a program by root: becomes another user, tries to get at a sweep, and prints what it could do."""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def attempts(targets):
    """Yields what to try, as a name and a function that raises an error where it is refused."""
    for path in targets["sockets"]:
        yield f"connect to {path!r}", lambda path=path: socket.socket(socket.AF_UNIX).connect(path)
        yield f"remove {path!r}", lambda path=path: Path(path).unlink()
    for path in targets["files"]:
        yield f"read {path}", lambda path=path: Path(path).open().close()
        yield f"list the folder of {path}", lambda path=path: list(Path(path).parent.iterdir())
        yield f"write beside {path}", lambda path=path: Path(f"{path}.mine").touch()
    for pid in targets["processes"]:
        yield f"signal {pid}", lambda pid=pid: os.kill(pid, signal.SIGTERM)
        yield f"read the environment of {pid}", lambda pid=pid: Path(f"/proc/{pid}/environ").open().close()
        yield f"list the files of {pid}", lambda pid=pid: list(Path(f"/proc/{pid}/fd").iterdir())


def main(user):
    targets = json.load(sys.stdin)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    for name, attempt in attempts(targets):
        try:
            attempt()
        except PermissionError:
            continue
        except OSError as error:
            print(f"{name}: {error}")
            continue
        print(f"{name}: done")
    print("tried everything")


if __name__ == "__main__":
    main(int(sys.argv[1]))
