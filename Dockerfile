# syntax=docker/dockerfile:1
# One image with three programs: `gateway` (the default), `control` and `loadtest`.
#
#   docker build -t weir --build-arg WEIR_COMMIT=$(git rev-parse --short=12 HEAD) .
#                                       the machine's own architecture; the argument is what `gateway --version` tells
#   docker buildx build --platform linux/amd64,linux/arm64 -t weir .   both (the other one under emulation)
#   docker run -p 9080:9080 -p 9901:9901 -e GATEWAY_CONFIG="$(cat gateway.yaml)" weir
#   docker run -p 18000:18000 --no-healthcheck -v weir:/var/lib/weir weir control serve --config control.yaml
#
# In an ECS task definition `command` takes the place of CMD: ["control", "serve", "--config", "..."].

ARG RUST_VERSION=1.95
ARG DEBIAN=trixie

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS builder
ARG TARGETARCH
WORKDIR /src
COPY . .
# What the programs tell as their commit; .git is not in the builder.
ARG WEIR_COMMIT=
# The caches survive between builds on one machine; the target folder is kept apart for each architecture.
# What is in a cache is not in the image, so the programs are copied out in the same step.
RUN --mount=type=cache,id=weir-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=weir-target-${TARGETARCH},target=/src/target,sharing=locked \
    WEIR_COMMIT="${WEIR_COMMIT}" cargo build --release --locked -p gateway -p control -p loadtest \
 && install -D --target-directory=/out target/release/gateway target/release/control target/release/loadtest

FROM debian:${DEBIAN}-slim
# The ECS health check runs sh, curl and grep inside the container; sh and grep are part of the base image.
# The AWS API is reached over TLS, which needs the CA certificates.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 weir \
 && useradd --uid 10001 --gid weir --home-dir /var/lib/weir --no-create-home --shell /usr/sbin/nologin weir \
 && install --directory --owner=weir --group=weir --mode=0750 /var/lib/weir
COPY --from=builder /out/ /usr/local/bin/
# A number, so that an orchestrator can see that it is not root. Ports above 1024 need no privilege.
USER 10001:10001
WORKDIR /var/lib/weir
EXPOSE 9080 9901 18000
# Starts the drain; see LISTENER_DRAIN_WAIT_TIME_S.
STOPSIGNAL SIGTERM
# The check that App Mesh gateways have in their task definitions. It is the gateway's: run `control` and
# `loadtest` with --no-healthcheck (ECS ignores it and takes the one in the task definition).
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD curl -s http://localhost:9901/server_info | grep state | grep -q LIVE
CMD ["gateway"]
