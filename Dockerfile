# feedsite in one image; compose.yaml runs it as two services.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FEEDSITE_DATA=/data \
    HOST=0.0.0.0 \
    PORT=8000

WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

COPY . .
RUN python -m compileall -q blacklist feeds feedsite \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin feedsite \
    && install -d -o feedsite -g feedsite -m 0700 /data

USER feedsite
# Everything worth keeping: database, key, first password, backups. A local disk:
# SQLite's WAL does not work on network file systems.
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "feedsite"]
