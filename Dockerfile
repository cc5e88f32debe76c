# Two images from one file: `api` serves HTTP and has no torch; `worker` trains, samples and prepares.
#   docker build --target api -t atelier-api .
#   docker build --target worker -t atelier-worker .
# For NVIDIA GPUs: docker build --target worker --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    MPLCONFIGDIR=/tmp PATH=/opt/atelier/bin:$PATH
RUN groupadd --gid 10001 atelier \
    && useradd --uid 10001 --gid atelier --create-home atelier \
    && install --directory --owner atelier --group atelier /data \
    && python -m venv /opt/atelier

FROM base AS api-build
WORKDIR /source
COPY pyproject.toml README.md ./
COPY models models
COPY service service
COPY worker worker
COPY migrations migrations
RUN pip install --quiet ".[s3]"

FROM base AS api
COPY --from=api-build /opt/atelier /opt/atelier
USER atelier
WORKDIR /data
ENV ATELIER_DATA=/data ATELIER_URL=http://127.0.0.1:8000
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["atelier", "ready"]
ENTRYPOINT ["atelier"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]

# torch alone, before the sources: the large layer that a change of the code leaves as it is.
FROM base AS worker-build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --quiet --index-url ${TORCH_INDEX} "torch>=2.9" "torchvision>=0.24"
WORKDIR /source
COPY pyproject.toml README.md ./
COPY models models
COPY service service
COPY worker worker
COPY migrations migrations
RUN pip install --quiet ".[worker,s3]"

FROM base AS worker
COPY --from=worker-build /opt/atelier /opt/atelier
USER atelier
WORKDIR /data
ENV ATELIER_DATA=/data
VOLUME /data
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 CMD ["atelier", "worker", "train", "--check"]
ENTRYPOINT ["atelier"]
CMD ["worker", "train"]
