"""What the API's router takes from here."""

from blacklist.views import BlacklistedDomainViewSet

routes = [("blacklist", BlacklistedDomainViewSet, "blacklist")]
