"""Serving: what gunicorn loads."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.wsgi import get_wsgi_application

from feedsite import sqlite

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "feedsite.settings")

sqlite.serve()
application: Callable[..., Any] = get_wsgi_application()

# They read the settings, so not above.
from django.conf import settings  # noqa: E402
from django.urls import reverse  # noqa: E402

from blacklist import cache  # noqa: E402
from feeds import picking  # noqa: E402
from feeds.door import Door  # noqa: E402
from feedsite import monitoring  # noqa: E402

if settings.DOOR:
    # Counted as Django's answers to the same call are.
    route = "entry-random"
    counted = partial(monitoring.observe, route, "GET", 200)
    application = Door(application, reverse(route), counted)

# In threads of this worker, after the fork.
cache.start()
picking.start()
monitoring.start()
