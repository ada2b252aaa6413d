"""Starts two OpenAI-compatible servers that somebody else wrote, and a Salon for each that has it as its provider.

    drive.py PYTHON

The servers are LiteLLM's proxy (SALON_LITELLM) and aimock (SALON_AIMOCK); PYTHON runs the clients. Both providers are
in the configuration of both Salons, and the default tells which is asked. Exits with the code of the first that fails.
"""

import os
import pathlib
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from drive import free_port  # noqa: E402

# The proxy imports half of the world.
START_TIMEOUT = 120
STOP_TIMEOUT = 10

# One key comes by a file, the other by a variable.
CONFIG = """\
llm:
  default_provider: {default}
  providers:
    litellm:
      kind: openai
      base_url: {litellm}/v1
      api_key_file: {key_file}
      default_model: fast
    aimock:
      kind: openai
      base_url: {aimock}/v1
      api_key_env: SALON_AIMOCK_KEY
      default_model: fast
      organization: org-salon
      headers: {{ X-Title: Salon }}
      extra_body: {{ temperature: 0.5 }}
"""


def wait_until_it_answers(name, url, server):
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            # An answer is an answer.
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{name} ended with {server.poll()}" if server.poll() is not None else f"{name} does not answer")


def stop(server):
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def main():
    python = sys.argv[1]
    ports = {"litellm": free_port(), "aimock": free_port()}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    env = os.environ | {
        "SALON_PROXY_KEY": f"sk-{secrets.token_hex(16)}",
        "SALON_AIMOCK_KEY": f"sk-{secrets.token_hex(16)}",
        "SALON_AIMOCK_URL": f"{urls['aimock']}/v1",
        # What the proxy would otherwise ask the internet for.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    servers, code = [], 1
    with tempfile.TemporaryDirectory(prefix="salon-openai-servers-") as home:
        home = pathlib.Path(home)
        key_file = home / "proxy.key"
        key_file.write_text(env["SALON_PROXY_KEY"] + "\n")
        commands = {
            "aimock": [os.environ["SALON_AIMOCK"], "-p", str(ports["aimock"]), "-f", str(HERE / "fixtures.json"), "--strict"],
            "litellm": [os.environ["SALON_LITELLM"], "--config", str(HERE / "litellm.yaml"), "--host", "127.0.0.1"]
            + ["--port", str(ports["litellm"])],
        }
        try:
            for name, command in commands.items():
                with open(home / f"{name}.log", "wb") as log:
                    server = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=subprocess.STDOUT)
                servers.append(server)
            wait_until_it_answers("aimock", f"{urls['aimock']}/v1/models", servers[0])
            wait_until_it_answers("litellm", f"{urls['litellm']}/health/liveliness", servers[1])
            for name in ("aimock", "litellm"):
                print(f"# {name}", flush=True)
                config = home / f"{name}.yaml"
                config.write_text(CONFIG.format(default=name, key_file=key_file, **urls))
                drive = [python, str(HERE.parent / "drive.py"), "--config", str(config)]
                client = [python, str(HERE / "scenario.py")]
                code = subprocess.run(drive + client, env=env | {"SALON_PROVIDER": name}).returncode
                if code:
                    sys.stderr.write((home / f"{name}.log").read_bytes()[-4000:].decode(errors="replace"))
                    break
        finally:
            for server in servers:
                stop(server)
    sys.exit(code)


if __name__ == "__main__":
    main()
