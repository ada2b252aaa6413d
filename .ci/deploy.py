"""What deploy/ says, checked against the schema of compose files and against itself; or the servers' environment."""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


def read(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", str(text)).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def check(condition, what):
    if not condition:
        sys.exit(f"deploy: {what}")


def compose(schema_place):
    import jsonschema

    schemas = [path for path in pathlib.Path(schema_place).rglob("*.json") if "properties" in path.read_text()]
    schemas = [json.loads(path.read_text()) for path in schemas]
    schema = next(schema for schema in schemas if "services" in schema.get("properties", {}))
    for name in ["compose.yaml", "compose.redis.yaml"]:
        jsonschema.validate(read(name)[0], schema)
    services = read("compose.yaml")[0]["services"]
    servers = {name: service for name, service in services.items() if name.startswith("salon-")}
    check(len(servers) == 3, "compose.yaml has three servers")
    balancer = (DEPLOY / "haproxy.cfg").read_text()
    for name in servers:
        check(f"{name}:50052" in balancer, f"haproxy.cfg names {name}")
    check(read("compose.redis.yaml")[0]["services"].keys() >= servers.keys(), "the override is for every server")
    for name, service in services.items():
        check("healthcheck" in service, f"{name} has a healthcheck")
    return services["salon-1"]


def times(server):
    defaults = yaml.safe_load((ROOT / "config.yaml").read_text())
    drain = seconds(defaults["limits"]["drain"])
    check(seconds(server["stop_grace_period"]) > drain, "stop_grace_period is longer than limits.drain")
    age = seconds(server["environment"]["SALON__LIMITS__MAX_SESSION_AGE"])
    for side in ["client", "server"]:
        limit = re.search(rf"timeout {side} (\w+)", (DEPLOY / "haproxy.cfg").read_text()).group(1)
        # A tenth more, and what an answer may take.
        check(seconds(limit) > age * 1.2, f"timeout {side} is longer than a stream lives")
    pod = read("kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]
    config = yaml.safe_load(read("kubernetes/configmap.yaml")[0]["data"]["config.yaml"])
    stop = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod["terminationGracePeriodSeconds"]
    check(grace >= stop + seconds(config["limits"]["drain"]) + 5, "the grace holds preStop and limits.drain")


def kubernetes():
    labels = read("kubernetes/deployment.yaml")[0]["spec"]["template"]["metadata"]["labels"]
    for document in read("kubernetes/services.yaml"):
        check(document["spec"]["selector"] == labels, "each Service selects the pods")
    check(read("kubernetes/disruption.yaml")[0]["spec"]["selector"]["matchLabels"] == labels, "so does the budget")
    listed = set(read("kubernetes/kustomization.yaml")[0]["resources"])
    there = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    check(listed == there, f"kustomization.yaml lists {there}")
    pod = read("kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]
    keys = set(read("kubernetes/secret.yaml")[0]["stringData"])
    used = {env["valueFrom"]["secretKeyRef"]["key"] for env in pod["containers"][0]["env"]}
    used |= {item["key"] for volume in pod["volumes"] for item in volume.get("secret", {}).get("items", [])}
    check(used == keys, f"the Deployment uses {used} of the Secret, which has {keys}")


if sys.argv[1:] == ["--environment"]:
    for name, value in read("compose.yaml")[0]["services"]["salon-1"]["environment"].items():
        print(f"{name}={value}")
else:
    times(compose(sys.argv[1]))
    kubernetes()
    print("deploy/: compose files fit their schema; names, times and labels fit one another")
