"""schemathesis asks every route of the OpenAPI document for what it says and for what it does not."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

ENDLESS = "/api/events"  # a stream that does not end by itself
# Whether a style, an upload or a base64 text exists is for no schema to say: sound requests may be refused.
LEFT_OUT = ("positive_data_acceptance", "negative_data_rejection", "missing_required_header", "unsupported_method")
# a request that contradicts itself here is refused before it is one, by the server below ours
FRAMING = ("content-length", "transfer-encoding")
EXAMPLES = {GenerationMode.POSITIVE: 12, GenerationMode.NEGATIVE: 12}


@pytest.mark.slow
def test_every_answer_is_as_documented_and_none_is_a_mistake_of_ours(quick):
    load_all_checks()
    excluded, asked, failed = [CHECKS.get_one(name) for name in LEFT_OUT], 0, []
    api = schemathesis.openapi.from_url(f"{quick.url}/openapi.json")
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.path == ENDLESS:
            continue
        for mode, examples in EXAMPLES.items():

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            def ask(case):
                nonlocal asked
                asked += 1
                for name in FRAMING:
                    case.headers.pop(name, None)
                case.call_and_validate(headers=quick.headers, excluded_checks=excluded)

            try:
                ask()
            except Unsatisfiable:
                pass  # nothing can be wrong with what takes nothing
            except (Exception, BaseExceptionGroup) as error:  # all of them, not the first alone
                failed.append(f"{operation.method} {operation.path}: {str(error)[:1500]}")
    assert not failed, "\n\n".join(failed)
    assert asked > 500
