"""A textbook site of Django REST framework: what its tutorial leads to."""
