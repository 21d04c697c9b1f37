# syntax=docker/dockerfile:1
# One image for the API, the worker and the migrations; docker-compose.yml says who runs what.

FROM python:3.13-slim AS build
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir --disable-pip-version-check --only-binary :all: uv==0.13.9
WORKDIR /northlift
COPY pyproject.toml requirements.lock README.md LICENSE NOTICE ./
# Only what the service itself needs. The lock is the constraint, so every package has its locked version and uv checks
# its hash; the tools for development, which the lock also holds, stay out of the image.
RUN uv venv .venv && \
    uv pip install --no-cache --only-binary :all: --constraint requirements.lock -r pyproject.toml
COPY . .
RUN uv pip install --no-cache --no-deps --no-build-isolation --editable . && \
    .venv/bin/python -c "import vl_convert; open('app/pages/static/vega.js', 'w', encoding='utf-8').write(vl_convert.javascript_bundle())"

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home northlift && \
    install -d -o northlift -g northlift -m 0750 /var/lib/northlift
COPY --from=build /northlift /northlift
WORKDIR /northlift
ENV PATH=/northlift/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NORTHLIFT_DATA_DIR=/var/lib/northlift/data \
    NORTHLIFT_MODEL_CACHE_DIR=/var/lib/northlift/models \
    NORTHLIFT_LOG_JSON=true
USER northlift
VOLUME /var/lib/northlift
EXPOSE 8000
# "Alive" only; /readyz also asks the database and the queue. The worker and the migrations replace or disable this.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["northlift", "serve", "--host", "0.0.0.0", "--port", "8000"]
