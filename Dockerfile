# Two stages: a Rust toolchain that builds, and an image with the binary, the C library and the certificates.

FROM rust:1-bookworm AS build
WORKDIR /src
# .dockerignore lets through only what the build reads.
COPY . .
RUN cargo build --release --locked --bin salon \
  && mkdir /data

# No shell and no package manager: nothing to break into, little to keep up to date.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /src/target/release/salon /usr/local/bin/salon
# The store's directory must belong to the user that writes it, also when a new volume is laid over it.
COPY --from=build --chown=65532:65532 /data /data

# Inside a container only an address that others reach is of use. In open mode Salon listens there only when told so:
# publish the port to a network that you trust, or set SALON__AUTH__MODE=required, and SALON__TLS__CERTIFICATE and
# SALON__TLS__KEY with files that are mounted (README.md, Deployment).
ENV GRPC_HOST=0.0.0.0 \
    GRPC_PORT=50052 \
    SALON__AUTH__ALLOW_OPEN_ON_NETWORK=true \
    SALON__STORE__PATH=/data/salon.db

# By number, because the image knows no names.
USER 65532:65532
# A config.yaml in the volume is found here.
WORKDIR /data
VOLUME /data
EXPOSE 50052
# A drain takes up to 25 seconds: `docker stop --time 30`.
STOPSIGNAL SIGTERM
# `salon health` gives up after 3 seconds and says why; Docker's own limit is only behind it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["salon", "health"]
ENTRYPOINT ["salon"]
CMD ["serve"]
