"""Serving: what gunicorn loads."""

import os

from django.core.wsgi import get_wsgi_application

from feedsite import sqlite

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "feedsite.settings")

sqlite.serve()
application = get_wsgi_application()
