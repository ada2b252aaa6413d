# The steps of .ci/run by name: what passes here passes there. `just` alone runs everything.

all:
    .ci/run

fmt:
    .ci/run fmt

proto:
    .ci/run proto

deny:
    .ci/run deny

sbom:
    .ci/run sbom

clippy:
    .ci/run clippy

doc:
    .ci/run doc

test:
    .ci/run test

guards:
    .ci/run guards

fuzz:
    .ci/run fuzz

simulation:
    .ci/run simulation

stores:
    .ci/run stores

buses:
    .ci/run buses

nodes:
    .ci/run nodes

python:
    .ci/run python

original:
    .ci/run original

node:
    .ci/run node

grpcurl:
    .ci/run grpcurl

readme:
    .ci/run readme

deploy:
    .ci/run deploy

openai_servers:
    .ci/run openai_servers

mcp:
    .ci/run mcp

tokens:
    .ci/run tokens

attacks:
    .ci/run attacks
