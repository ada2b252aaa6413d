"""What is linked into Salon, as a CycloneDX 1.6 file: `sbom.py OUTPUT [TARGET]`.

Read from cargo itself: `cargo tree` says what is linked (no macros, no build scripts, no tests), `Cargo.lock` has the
checksums, `cargo metadata` the licences. The C libraries that crates carry in themselves are components of their
own, because whoever looks for a fault of SQLite looks for its name. The same commit gives the same file. Ends with an
error when anything is missing: a list with holes is worse than none.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# Crate: the library in it, the file that says its version, and how; its licence, if that is not the crate's.
CARRIED = {
    "libsqlite3-sys": (
        "sqlite",
        "sqlite3/sqlite3.h",
        r'#define SQLITE_VERSION\s+"([^"]+)"',
        # What SPDX calls the words with which SQLite is given to the public domain.
        "blessing",
    ),
    "aws-lc-sys": (
        "aws-lc",
        "aws-lc/include/openssl/base.h",
        r'#define AWSLC_VERSION_NUMBER_STRING\s+"([^"]+)"',
        None,
    ),
    "tikv-jemalloc-sys": (
        "jemalloc",
        # It has no file of its own with its version: the crate's has it behind a plus.
        "Cargo.toml",
        r'version = "[^"+]+\+([0-9.]+)',
        "BSD-2-Clause",
    ),
}

# Crates that link to something without carrying it: it is in another crate.
CARRY_NOTHING = {"aws-lc-rs"}


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def ref(name, version):
    return f"pkg:cargo/{name}@{version}"


def tree(target):
    """The crates that are linked, each with those it uses: {(name, version): {(name, version)}}."""
    text = run("cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--target", target,
               "--prefix", "depth", "--format", " {p}")
    uses, above = {}, []
    for line in text.splitlines():
        depth, name, version = re.match(r"(\d+) (\S+) v(\S+)", line).groups()
        crate = (name, version)
        uses.setdefault(crate, set())
        del above[int(depth):]
        if above:
            uses[above[-1]].add(crate)
        above.append(crate)
    return uses


def component(package, checksum):
    name, version = package["name"], package["version"]
    if not package["license"]:
        raise SystemExit(f"{name} {version} states no licence")
    made = {
        "type": "library",
        "bom-ref": ref(name, version),
        "name": name,
        "version": version,
        "scope": "required",
        # Older crates write a slash where they mean a choice.
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
        "purl": ref(name, version),
        "hashes": [{"alg": "SHA-256", "content": checksum}],
    }
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def carried(package):
    """The C library within a crate."""
    name, header, pattern, licence = CARRIED[package["name"]]
    text = (pathlib.Path(package["manifest_path"]).parent / header).read_text(encoding="utf-8", errors="replace")
    version = re.search(pattern, text).group(1)
    purl = f"pkg:generic/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "scope": "required",
            "licenses": [{"expression": licence or package["license"]}], "purl": purl}


def bill(target):
    uses = tree(target)
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    packages = {(p["name"], p["version"]): p for p in metadata["packages"]}
    lock = tomllib.loads(pathlib.Path("Cargo.lock").read_text(encoding="utf-8"))
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
    root = next(crate for crate in uses if crate[0] == "salon")
    components, edges = [], {ref(*crate): {ref(*used) for used in used_by} for crate, used_by in uses.items()}
    for crate in sorted(uses):
        if crate != root:
            components.append(component(packages[crate], checksums[crate]))
        if packages[crate]["links"] and crate[0] not in CARRIED.keys() | CARRY_NOTHING:
            raise SystemExit(f"{crate[0]} links to {packages[crate]['links']}: see what it carries, and say it here")
        if crate[0] in CARRIED:
            library = carried(packages[crate])
            components.append(library)
            edges[ref(*crate)].add(library["bom-ref"])
            edges[library["bom-ref"]] = set()
    own = packages[root]
    made = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": run("git", "log", "-1", "--format=%cI").strip(),
            "component": {
                "type": "application",
                "bom-ref": ref(*root),
                "name": own["name"],
                "version": own["version"],
                "description": own["description"],
                "licenses": [{"expression": own["license"]}],
                "purl": ref(*root),
            },
            "properties": [
                {"name": "salon:target", "value": target},
                {"name": "salon:features", "value": "default"},
            ],
        },
        "components": components,
        "dependencies": [{"ref": name, "dependsOn": sorted(used)} for name, used in sorted(edges.items())],
    }
    made["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(made, sort_keys=True))}"
    return made


def check(made, text):
    """The file against the official schema, and against what a schema cannot say."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise SystemExit(f"the bill is not valid: {error}")
    known = {one["bom-ref"] for one in made["components"]} | {made["metadata"]["component"]["bom-ref"]}
    if len(known) != len(made["components"]) + 1:
        raise SystemExit("two components have one name")
    for one in made["dependencies"]:
        if not {one["ref"], *one["dependsOn"]} <= known:
            raise SystemExit(f"{one['ref']} uses what is not in the bill")
    names = {one["name"] for one in made["components"]}
    for must in ("tokio", "tonic", "rustls", "sqlite", "aws-lc", "jemalloc"):
        if must not in names:
            raise SystemExit(f"{must} is linked and not in the bill")
    for never in ("proptest", "criterion", "tempfile", "tonic-prost-build"):
        if never in names:
            raise SystemExit(f"{never} is in the bill and not linked")


def main():
    output = pathlib.Path(sys.argv[1])
    host = re.search(r"host: (\S+)", run("rustc", "-vV")).group(1)
    made = bill(sys.argv[2] if len(sys.argv) > 2 else host)
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    check(made, text)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(f"{len(made['components'])} components in {output}")


main()
