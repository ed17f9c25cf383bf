"""Serving: what gunicorn loads."""

import os

from django.core.wsgi import get_wsgi_application

from feedsite import sqlite

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "feedsite.settings")

sqlite.serve()
application = get_wsgi_application()

# They read the settings, so not above. In threads of this worker, after the fork.
from blacklist import cache  # noqa: E402
from feeds import picking  # noqa: E402
from feedsite import monitoring  # noqa: E402

cache.start()
picking.start()
monitoring.start()
