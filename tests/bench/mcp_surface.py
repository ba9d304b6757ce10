"""What the MCP surface costs: time until tools/list is answered, a call's overhead, resident memory.

    python -m tests.bench.mcp_surface [--rounds N] [--calls N]

Beside `import mcp.server` alone and beside plain_server.py, round by round on the same machine. Wall time depends on
what else runs; `cpu` is what the process itself used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
from mcp import Client

from tests.support import make_settings
from tests.surfaces.serving import serving
from upres.engine import LocalEngine
from upres.surfaces.mcp import build_server

IMPORT_ALONE = (sys.executable, "-c", "from mcp.server import MCPServer")
UPRES = (sys.executable, "-m", "upres.mcp_server")
PLAIN = (sys.executable, str(Path(__file__).with_name("plain_server.py")))
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


class Server:
    """A stdio server spoken to without a client library, so that only its own time counts."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self.began = time.perf_counter()
        self.process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)  # fmt: skip
        self.ask("initialize", **HELLO)
        self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.ask("tools/list")
        self.ready_s = time.perf_counter() - self.began
        facts = psutil.Process(self.process.pid)
        self.cpu_s, self.rss_mb = sum(facts.cpu_times()[:2]), facts.memory_info().rss / 2**20

    def ask(self, method: str, **params: Any) -> Any:
        self._say({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        assert "result" in answer, answer
        return answer["result"]

    def calls_ms(self, count: int) -> list[float]:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            self.ask("tools/call", name="get_queue_status", arguments={})
            times.append((time.perf_counter() - began) * 1e3)
        return times

    def close(self) -> None:
        self.process.communicate(timeout=10)

    def _say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="what the MCP surface costs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench(options.rounds, options.calls, Path(folder))


def bench(rounds: int, calls: int, folder: Path) -> None:
    settings = make_settings(folder)
    env = settings.to_env()
    alone, alone_cpu, ready, cpu, rss, call = [], [], dict[str, Any](), dict[str, Any](), dict[str, Any](), {}
    with serving(settings) as rest:
        commands = {"upres": (UPRES, env), "plain": (PLAIN, {**env, "SEEDVR2_API_URL": rest.url})}
        for _ in range(rounds):
            began, before = time.perf_counter(), _children_s()
            subprocess.run(IMPORT_ALONE, env=env, check=True)
            alone.append(time.perf_counter() - began)
            alone_cpu.append(_children_s() - before)
            for name, (command, its_env) in commands.items():
                server = Server(command, its_env)
                ready.setdefault(name, []).append(server.ready_s)
                cpu.setdefault(name, []).append(server.cpu_s)
                rss.setdefault(name, []).append(server.rss_mb)
                call.setdefault(name, []).extend(server.calls_ms(calls))
                server.close()
    within = anyio.run(in_process, settings, calls)
    over = {name: (min(ready[name]) - min(alone)) * 1e3 for name in ready}
    print(f"Best of {rounds} rounds (median), p50 of {rounds * calls} get_queue_status; plain: plain_server.py")
    table([
        ("import of mcp.server alone, wall", "", _times(alone), ""),
        ("import of mcp.server alone, CPU", "", f"{min(alone_cpu):.2f} s", ""),
        ("first tools/list answered, wall", "", _times(ready["upres"]), _times(ready["plain"])),
        ("first tools/list answered, CPU", "", f"{min(cpu['upres']):.2f} s", f"{min(cpu['plain']):.2f} s"),
        ("the same over the import alone, wall", "200 ms", f"{over['upres']:.0f} ms", f"{over['plain']:.0f} ms"),
        ("the same over the import alone, CPU", "", f"{(min(cpu['upres']) - min(alone_cpu)) * 1e3:.0f} ms",
         f"{(min(cpu['plain']) - min(alone_cpu)) * 1e3:.0f} ms"),
        ("a call over stdio", "15 ms", f"{statistics.median(call['upres']):.1f} ms",
         f"{statistics.median(call['plain']):.1f} ms"),
        ("a call in process, handshake client", "5 ms", f"{within['legacy']:.1f} ms", ""),
        ("a call in process, 2026-07-28 client", "5 ms", f"{within['auto']:.1f} ms", ""),
        ("resident memory when ready", "", f"{max(rss['upres']):.0f} MB", f"{max(rss['plain']):.0f} MB"),
    ])  # fmt: skip


def table(rows: list[tuple[str, str, str, str]]) -> None:
    """A row whose figure is above its target is marked."""
    print("\n| what | at most | upres | plain | |\n|---|---|---|---|---|")
    for what, target, ours, theirs in rows:
        met = "" if not target else "met" if float(ours.split()[0]) <= float(target.split()[0]) else "NOT MET"
        print(f"| {what} | {target} | {ours} | {theirs} | {met} |")


async def in_process(settings: Any, calls: int) -> dict[str, float]:
    engine, found = LocalEngine(settings), {}
    for mode in ("legacy", "auto"):
        times = []
        async with Client(build_server(engine, settings), mode=mode) as client:
            for _ in range(calls):
                began = time.perf_counter()
                await client.call_tool("get_queue_status", {})
                times.append((time.perf_counter() - began) * 1e3)
        found[mode] = statistics.median(times)
    engine.close()
    return found


def _children_s() -> float:
    times = psutil.Process().cpu_times()
    return float(times.children_user + times.children_system)


def _times(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} s ({statistics.median(seconds):.2f})"


if __name__ == "__main__":
    main()
