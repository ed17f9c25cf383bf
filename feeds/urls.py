"""Where the page is, and what feeds adds to the API."""

from django.urls import path

from feeds import views

# Of the API: what the router takes, and what is no collection.
routes = [
    ("entries", views.EntryViewSet, "entry"),
    ("feeds", views.FeedViewSet, "feed"),
    ("categories", views.CategoryViewSet, "category"),
]
api_urlpatterns = [
    path("feeds.opml", views.OpmlView.as_view(), name="feeds-opml"),
    path("entries.atom", views.AtomView.as_view(), name="entries-atom"),
]

urlpatterns = [path("", views.page, name="page")]
