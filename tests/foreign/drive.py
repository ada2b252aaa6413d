"""Starts a Salon of its own, waits until it is healthy, runs a client against it, and stops it.

    drive.py [--port PORT] [--config FILE] COMMAND…

The client gets SALON_ADDRESS, SALON_PID and SALON_EXIT: the file that holds the server's exit code once it has
ended, so that a client can send SIGTERM and see the whole drain. The server is SALON_BIN, its store a new
directory, its configuration the defaults or FILE. Exits with the client's code, or 1 when the server misbehaves.
"""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_TIMEOUT = 30
# The whole client. Its own waits are shorter and say more.
CLIENT_TIMEOUT = 600
# The drain's grace is 25 seconds.
STOP_TIMEOUT = 30
# Would make the server another than the one that runs with nothing configured.
SETTINGS = ("CHAT_SERVICE_ADDRESS", "GRPC_HOST", "OPENAI_API_KEY", "OPENAI_BASE_URL")


def free_port():
    """A free port below the range from which the system itself takes ports for outgoing connections."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    sys.exit("no free port between 20000 and 32000")


def start(port, config, home, log):
    binary = pathlib.Path(os.environ["SALON_BIN"]).resolve()
    if not binary.is_file():
        sys.exit(f"{binary} is not there: run `cargo build` first, or set SALON_BIN")
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS and not k.startswith("SALON__")}
    env |= {"GRPC_PORT": str(port), "SALON__STORE__PATH": str(home / "salon.db")}
    # A scenario says in a second what people say in minutes; on a fast machine that is more than the default allows.
    env |= {"SALON__LIMITS__MESSAGES_PER_SECOND": "1000", "SALON__LIMITS__MESSAGES_BURST": "1000"}
    env |= {"SALON__LIMITS__TRANSIENTS_PER_SECOND": "1000", "SALON__LIMITS__TRANSIENTS_BURST": "1000"}
    if config:
        shutil.copyfile(config, home / "config.yaml")
    # In its own directory: a config.yaml of the one it was called from must not count.
    return subprocess.Popen([binary, "serve"], cwd=home, env=env, stdout=log, stderr=subprocess.STDOUT)


def wait_healthy(address, server):
    request = health_pb2.HealthCheckRequest()
    deadline = time.monotonic() + START_TIMEOUT
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while server.poll() is None and time.monotonic() < deadline:
            try:
                # Short, so that a server that ends is noticed at once.
                answer = health.Check(request, timeout=1, wait_for_ready=True)
            except grpc.RpcError as error:
                problem = f"{error.code()}: {error.details()}"
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            problem = str(answer)
            time.sleep(0.05)
    if server.poll() is not None:
        sys.exit(f"the server ended with {server.poll()} before it was healthy")
    sys.exit(f"the server is not healthy after {START_TIMEOUT} s: {problem}")


def watch(server, exit_file):
    """Leaves the server's exit code in a file, whole or not at all."""
    code = server.wait()
    partial = exit_file.with_suffix(".partial")
    partial.write_text(str(code))
    partial.rename(exit_file)


def stop(server):
    """Gives whether the server ended well, by itself or on SIGTERM."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        print(f"the server still ran {STOP_TIMEOUT} s after SIGTERM", file=sys.stderr)
        return False
    if code != 0:
        print(f"the server ended with {code}", file=sys.stderr)
    return code == 0


def run(client, port, config, home, log):
    server = start(port, config, home, log)
    exit_file = home / "exit"
    watcher = threading.Thread(target=watch, args=(server, exit_file), daemon=True)
    watcher.start()
    address = f"127.0.0.1:{port}"
    code = 1
    try:
        wait_healthy(address, server)
        env = os.environ | {
            "SALON_ADDRESS": address,
            "SALON_PID": str(server.pid),
            "SALON_EXIT": str(exit_file),
        }
        code = subprocess.run(client, env=env, stdin=subprocess.DEVNULL, timeout=CLIENT_TIMEOUT).returncode
    except subprocess.TimeoutExpired:
        print(f"the client did not end within {CLIENT_TIMEOUT} s", file=sys.stderr)
    finally:
        well = stop(server)
        # It writes into the directory that is removed next.
        watcher.join(STOP_TIMEOUT)
    return code or (0 if well else 1)


def main():
    args = sys.argv[1:]
    port, config = free_port(), None
    while args[:1] in (["--port"], ["--config"]):
        option, value, *args = args
        if option == "--port":
            port = int(value)
        else:
            config = value
    if not args:
        sys.exit(__doc__)
    home = pathlib.Path(tempfile.mkdtemp(prefix="salon-foreign-"))
    code = 1
    try:
        with open(home / "server.log", "wb") as log:
            code = run(args, port, config, home, log)
    finally:
        if code:
            print("--- the end of the server's log", file=sys.stderr)
            sys.stderr.write((home / "server.log").read_bytes()[-8000:].decode(errors="replace"))
        shutil.rmtree(home)
    sys.exit(code)


if __name__ == "__main__":
    main()
