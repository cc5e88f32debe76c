"""supervisord for the embedded stack: its configuration, its start, its state, its end."""

import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import httpx

from service import tether

LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3


@dataclass(frozen=True)
class Program:
    """A command to keep running. Groups start in order of appearance and stop one by one in reverse."""

    name: str
    command: Sequence[str]
    group: str
    stop_seconds: int = 10


def configuration(programs: Sequence[Program], *, control: Path, logs: Path) -> str:
    """The text of supervisord.conf. Programs find their settings in the environment they inherit."""
    lines = [
        "[supervisord]",
        "nodaemon=true",
        "silent=true",
        _setting("logfile", logs / "supervisord.log"),
        f"logfile_maxbytes={LOG_BYTES}",
        f"logfile_backups={LOG_BACKUPS}",
        _setting("pidfile", control.with_suffix(".pid")),
        _setting("childlogdir", logs),
        "",
        "[unix_http_server]",
        _setting("file", control),
        "chmod=0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    groups = list(dict.fromkeys(program.group for program in programs))
    for priority, group in enumerate(groups, start=1):
        members = ",".join(program.name for program in programs if program.group == group)
        lines += ["", f"[group:{group}]", f"programs={members}", f"priority={priority}"]
    for program in programs:
        lines += ["", *_section(program, logs)]
    return "\n".join(lines) + "\n"


def _section(program: Program, logs: Path) -> list[str]:
    return [
        f"[program:{program.name}]",
        _setting("command", shlex.join(tether.tethered(*program.command))),
        "autostart=true",
        "autorestart=true",
        "startsecs=2",
        "startretries=5",
        f"stopwaitsecs={program.stop_seconds}",
        "stopasgroup=true",
        "killasgroup=true",
        "redirect_stderr=true",
        # Read twice: its section is expanded as a whole, and this setting once more.
        _setting("stdout_logfile", _setting_value(logs / f"{program.name}.log")),
        f"stdout_logfile_maxbytes={LOG_BYTES}",
        f"stdout_logfile_backups={LOG_BACKUPS}",
    ]


def _setting(key: str, value: Path | str) -> str:
    return f"{key}={_setting_value(value)}"


def _setting_value(value: Path | str) -> str:
    return str(value).replace("%", "%%")


class Supervisor:
    """A running supervisord, in a session of its own so that the terminal's Ctrl-C does not reach it."""

    def __init__(self, configured: Path, control: Path, environ: Mapping[str, str], *, lock: int) -> None:
        self._control = control
        command = [
            sys.executable,
            "-P",
            "-m",
            "supervisor.supervisord",
            "--configuration",
            str(configured),
        ]
        with configured.with_suffix(".out").open("wb") as output:
            self._process = subprocess.Popen(
                tether.tethered(*command),
                env=os.environ | environ | tether.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(lock,),  # whoever still runs on this folder keeps it locked
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def failed(self) -> list[str]:
        """The programs that supervisord has given up restarting."""
        return [str(info["name"]) for info in self._programs() if info["statename"] == "FATAL"]

    def stop(self, *, seconds: float, hurried: Callable[[], bool]) -> None:
        """End every program in order, or supervisord alone when the time is over or `hurried` says so."""
        if self.alive():
            self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline and not hurried():
            self._programs()  # wakes its loop, which otherwise looks at signals once a second
            time.sleep(0.05)
        self._process.kill()
        self._process.wait()

    def _programs(self) -> list[dict[str, Any]]:
        """The state of every program; nothing while supervisord does not listen (yet, or any more)."""
        transport = httpx.HTTPTransport(uds=str(self._control))
        question = xmlrpc.client.dumps((), "supervisor.getAllProcessInfo")
        headers = {"Content-Type": "text/xml"}
        try:
            with httpx.Client(transport=transport, trust_env=False, timeout=2) as client:
                answer = client.post("http://supervisord/RPC2", content=question, headers=headers)
                (programs,), _ = xmlrpc.client.loads(answer.text)
        except (httpx.HTTPError, xmlrpc.client.Error, ExpatError):
            return []
        return list(programs)  # type: ignore[arg-type]  # XML-RPC values are untyped
