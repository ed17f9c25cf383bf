"""How gunicorn serves feedsite; what an operator may turn is in the environment."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from feedsite import env

try:
    _settings = env.load()
except ImproperlyConfigured as error:
    sys.exit(str(error))

_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host
bind = f"{_host}:{_settings.port}"
wsgi_app = "feedsite.wsgi"
workers = _settings.workers
worker_class = "gthread"
threads = _settings.threads
# Waiting connections cost no thread here; a proxy keeps its own open for a minute.
keepalive = 65
timeout = 60
graceful_timeout = 10
loglevel = _settings.log_level.lower()
if Path("/dev/shm").is_dir():  # noqa: S108
    # Workers touch a file each second: never on a slow disk.
    worker_tmp_dir = "/dev/shm"  # noqa: S108
# Django decides whom it believes (NUM_PROXIES). gunicorn would take the scheme
# from whoever connects over loopback.
secure_scheme_headers: dict[str, str] = {}
# Nor may it say under which address we are (SCRIPT_NAME, PATH_INFO).
forwarder_headers = ""
# 200 ids of 19 digits, the commas between them as %2C, are 4,400 bytes.
limit_request_line = 8190
# One path per user: a second server would take it from the first.
control_socket_disable = True


def on_starting(server):
    """Once, before anything is forked; not again when the server is told to reload."""
    # gunicorn itself tries a busy port for five seconds, with a dozen lines.
    if "GUNICORN_FD" not in os.environ and (why := env.why_no_port(_settings)):
        sys.exit(why)
    server.metrics = tempfile.mkdtemp(prefix="feedsite-metrics-")
    # prometheus_client reads it when a worker imports it.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = server.metrics


def post_worker_init(worker):
    worker.log.info("Worker %s is ready", worker.pid)


def child_exit(server, worker):
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


def on_exit(server):
    shutil.rmtree(server.metrics, ignore_errors=True)
