"""The one settings file; what an operator may turn is read in env.py."""

from typing import Any

import dj_database_url

from feedsite import __version__, env, sqlite

ENV = env.load()
BASE_DIR = env.BASE_DIR
DATA = ENV.feedsite_data

sqlite.use_fixed_library()

SECRET_KEY = ENV.secret_key or env.secret_key(DATA)
DEBUG = ENV.debug
ALLOWED_HOSTS = list(ENV.allowed_hosts)

INSTALLED_APPS = [
    "feedsite",
    "feeds",
    "blacklist",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "feedsite.api.HeadMiddleware",
    "feedsite.monitoring.MetricsMiddleware",
    # Outside of what redirects to HTTPS: a browser cannot follow one without CORS.
    "feedsite.api.OpenMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "feedsite.api.ApiMiddleware",
    "feedsite.policy.PolicyMiddleware",
    "feedsite.accounts.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "feedsite.accounts.AuthenticationMiddleware",
    "feedsite.accounts.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "feedsite.api.LockedDatabaseMiddleware",
]

ROOT_URLCONF = "feedsite.urls"
WSGI_APPLICATION = "feedsite.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Databases. On SQLite a connection stays open (closing the last one deletes the
# WAL); on PostgreSQL psycopg's pool keeps them.
SQLITE_SYNCHRONOUS = ENV.sqlite_synchronous
SQLITE_BUSY_TIMEOUT = ENV.sqlite_busy_timeout
SQLITE_CACHE_KIB = ENV.sqlite_cache_kib
THREADS = ENV.threads

_database: dict[str, Any] = {
    # Not through an address, in which #, ? and % of a path would mean something.
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DATA / "feedsite.sqlite3",
}
if ENV.database_url:
    _database = {**dj_database_url.parse(ENV.database_url)}
else:
    env.make_folder(DATA)
    sqlite.make_private(_database["NAME"])
_options: dict[str, Any] = _database.get("OPTIONS", {})
if _database["ENGINE"] == "django.db.backends.sqlite3":
    _database |= {
        "CONN_MAX_AGE": None,
        # IMMEDIATE: a deferred transaction that reads and then writes fails at
        # once with "database is locked", whatever the timeout.
        "OPTIONS": {
            **_options,
            "transaction_mode": "IMMEDIATE",
            "timeout": sqlite.timeout(SQLITE_BUSY_TIMEOUT),
        },
    }
else:
    _database |= {
        "CONN_MAX_AGE": 0,
        # Else every connection of the pool fails once after a restart of the server.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**_options, "pool": {"min_size": 1, "max_size": THREADS + 4}},
    }
    if sqlite.serving():
        _database["OPTIONS"]["pool"]["timeout"] = sqlite.WHILE_SERVING
        _database["OPTIONS"]["options"] = (
            f"{_options.get('options', '')} "
            f"-c lock_timeout={int(sqlite.WHILE_SERVING * 1000)}"
        ).strip()
DATABASES = {"default": _database}

# Who may do what.
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
ADMIN_PATH = ENV.admin_path
NUM_PROXIES = ENV.num_proxies

HTTPS = ENV.https
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
if NUM_PROXIES:
    # Without a proxy of ours in front, the header is the client's own word.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_ENGINE = "feedsite.sessions"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
    }
}

# The API.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # Token first: without credentials the answer is then 401, not 403.
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["feedsite.api.StaffWrites"],
    "DEFAULT_RENDERER_CLASSES": ["feedsite.api.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["feedsite.api.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "feedsite.api.Negotiation",
    "DEFAULT_PAGINATION_CLASS": "feedsite.api.CursorPages",
    "DEFAULT_SCHEMA_CLASS": "feedsite.openapi.Schema",
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%SZ",
    "EXCEPTION_HANDLER": "feedsite.api.exception_handler",
    # "format" is a parameter like any other we don't know: ignored.
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "feedsite",
    "DESCRIPTION": "A random good post from the small web.",
    "VERSION": "1",
    # Its schemas are JSON Schema, null and all.
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
CORS_ALLOW_ALL_ORIGINS = True
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "if-none-match",
    "x-client-token",
]
CORS_EXPOSE_HEADERS = ["ETag", "Retry-After"]

# Readers.
DOOR = ENV.door
RENDERED_ENTRIES = ENV.rendered_entries
VOTES_PER_ENTRY_PER_DAY = ENV.votes_per_entry_per_day
VOTES_PER_HOUR = ENV.votes_per_hour
REPORTS_PER_HOUR = ENV.reports_per_hour

# Fetching.
VERSION = __version__
CONTACT = ENV.contact
FEEDS_HTTP_PROXY = ENV.feeds_http_proxy
FEEDS_ALLOW_PRIVATE_ADDRESSES = ENV.feeds_allow_private_addresses
FEEDS_HOST_INTERVAL = ENV.feeds_host_interval
FEEDS_HOST_CONNECTIONS = ENV.feeds_host_connections
FEEDS_PLATFORM_INTERVAL = ENV.feeds_platform_interval
FEEDS_PLATFORM_CONNECTIONS = ENV.feeds_platform_connections

# Static files are served by the application itself, straight from the packages.
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        # A 503 is our own answer, of a probe or while the database is locked.
        "not_busy": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", 0) != 503,
        },
    },
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": ENV.log_level},
    "loggers": {
        "django": {"handlers": [], "level": ENV.log_level, "propagate": True},
        # Else whoever asks for what is not there writes a line of our log each time.
        "django.request": {"level": "ERROR", "filters": ["not_busy"]},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}
