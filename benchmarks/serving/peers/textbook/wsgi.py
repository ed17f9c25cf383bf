"""What gunicorn loads."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.serving.peers.textbook.settings"
application = get_wsgi_application()
