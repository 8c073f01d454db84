"""The OpenAPI description is true: schemathesis makes up requests from it, good and bad, and finds nothing wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

if TYPE_CHECKING:
    from server.conftest import Live

_SETTINGS = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_every_answer_is_as_described(live: Live, mode: schemathesis.GenerationMode) -> None:
    description = schemathesis.openapi.from_url(f"{live.url}openapi.json")
    operations = [found.ok() for found in description.get_all_operations()]
    assert len(operations) > 12
    # What takes nothing cannot be given anything wrong.
    for operation in [each for each in operations if mode.is_positive or each.body or list(each.iter_parameters())]:

        @_SETTINGS
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            # A condition in SQL or a picture in base64 may be wrong where the description cannot say so.
            case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=60)

        check()
