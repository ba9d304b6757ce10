"""The official conformance suite, both requirement sets, against a real `upres serve`.

Most scenarios call fixture tools that a product does not have (`test_simple_text` …); those in GENERIC need none, and
pass on the product as it is. All pass on that server with the fixtures added (fixtures.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.suite import VERSIONS, OutOfReach, Scenario, Suite, fetched
from tests.support import make_settings
from tests.surfaces.serving import Served, serving

GENERIC = {
    "2025-11-25": {
        "server-initialize", "server-session-lifecycle", "ping", "completion-complete", "tools-list",
        "tools-call-error", "server-sse-multiple-streams", "resources-list", "prompts-list", "dns-rebinding-protection",
    },
    "2026-07-28": {
        "completion-complete", "tools-list", "tools-call-error", "server-sse-multiple-streams", "resources-list",
        "sep-2164-resource-not-found", "prompts-list", "dns-rebinding-protection", "caching", "http-header-validation",
        "input-required-result-unsupported-methods", "input-required-result-ignore-extra-params",
        "input-required-result-missing-input-response", "input-required-result-validate-input",
    },
}  # fmt: skip
SCENARIOS = {"2025-11-25": 33, "2026-07-28": 50}
WITHOUT_A_VERDICT = {  # nothing of them passes or fails
    "tasks-status-notifications",  # the suite skips its only check
    "server-sse-polling",  # warns that a broken stream is not resumed, which is optional
}


@pytest.fixture(scope="module")
def suite() -> Suite:
    try:
        return fetched()
    except OutOfReach as error:
        pytest.skip(f"the conformance suite cannot be fetched here: {error}")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_settings(tmp_path_factory.mktemp("product"))) as server:
        yield server


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_settings(tmp_path_factory.mktemp("furnished")), ("tests.conformance.fixtures",)) as server:
        yield server


@pytest.mark.parametrize("version", VERSIONS)
def test_the_generic_scenarios_pass_on_the_product_as_it_is(suite: Suite, product: Served, version: str) -> None:
    found = suite.run(f"{product.url}/mcp", version)
    assert {name: found.get(name) for name in GENERIC[version] if not passes(found.get(name))} == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_scenario_passes_once_the_fixtures_are_there(suite: Suite, furnished: Served, version: str) -> None:
    found = suite.run(f"{furnished.url}/mcp", version)
    judged = {name: scenario for name, scenario in found.items() if name not in WITHOUT_A_VERDICT}
    assert {name: scenario for name, scenario in judged.items() if not passes(scenario)} == {}
    assert len(found) == SCENARIOS[version]


def passes(scenario: Scenario | None) -> bool:
    return scenario is not None and scenario.passed > 0 and scenario.failed == 0
