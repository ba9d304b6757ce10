from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.surfaces.rest_flashvsr_ids import DIGITS, as_id, as_uuid

IDS = st.text(DIGITS, min_size=8, max_size=8)


@given(IDS)
def test_an_id_is_read_back_from_its_uuid_in_any_case(task_id: str) -> None:
    made = as_uuid(task_id)
    assert as_id(str(made)) == as_id(str(made).upper()) == task_id
    assert made.version == 8 and made.variant == uuid.RFC_4122


@given(IDS, IDS)
def test_two_ids_have_two_uuids(one: str, other: str) -> None:
    assert (as_uuid(one) == as_uuid(other)) is (one == other)


@pytest.mark.parametrize("given", ["", "k3f9x2ab", "zzzzzzzz", "8f14e45f-ceea-467f-a8d5-0a3b2f0c1d2e", "x" * 36,
                                   "ffffffff-ffff-8000-8000-757072657300", "０" * 8 + "-0000-8000-8000-757072657300"])
def test_what_is_none_of_our_uuids_stays_as_it_is(given: str) -> None:
    assert as_id(given) == given
