"""How the API is described: what all of its operations have in common."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from rest_framework.permissions import SAFE_METHODS

from feeds.serializers import ProblemSerializer
from feedsite.api import StaffWrites


class Schema(AutoSchema):
    """Adds who may do it and which errors it answers.

    A serializer names in `staff_only` the keys that are absent for others.
    """

    def get_auth(self) -> list[Any]:
        auths = super().get_auth()
        if self._is_for_staff() and self.method in SAFE_METHODS:
            auths.append({})
        return auths

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:
            for code in self._errors(operation):
                answer = self._get_response_for_code(  # type: ignore[no-untyped-call]
                    ProblemSerializer, code, ["application/json"]
                )
                operation["responses"].setdefault(code, answer)
        return operation

    def _errors(self, operation: dict[str, Any]) -> list[str]:
        has_body = "requestBody" in operation
        asked = [one["in"] for one in operation.get("parameters", ())]
        when = {
            "400": has_body or "query" in asked,
            # A token that is none, on reads too.
            "401": self._is_for_staff(),
            "403": self._is_for_staff() and self.method not in SAFE_METHODS,
            "404": "path" in asked,
            "413": has_body,
            "503": getattr(self.view, "queryset", None) is not None,
        }
        return [code for code, applies in when.items() if applies]

    def _is_for_staff(self) -> bool:
        return any(isinstance(one, StaffWrites) for one in self.view.get_permissions())

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        staff_only = getattr(serializer, "staff_only", ())
        if staff_only and "required" in schema:
            required = [name for name in schema["required"] if name not in staff_only]
            schema["required"] = required
        return schema
