"""What a step does over any transport."""

from __future__ import annotations

from unittest.mock import create_autospec

import pytest

from anyvar_step.client.transport import Transport, forget_delivered
from anyvar_step.errors import AccessRefused, FileTrouble, StepError, Unavailable
from anyvar_step.models import Manifest


@pytest.mark.parametrize("kind", [Unavailable, AccessRefused, FileTrouble])
def test_a_step_whose_output_is_delivered_ends_well_whatever_forgetting_meets(kind: type[StepError]) -> None:
    """Redis may get another password in that moment: OUT is in place, and the exit code must say so."""
    transport = create_autospec(Transport, instance=True)
    transport.forget.side_effect = kind("what happened")
    ticket = create_autospec(Manifest, instance=True, run_id="run-1")
    forget_delivered(transport, ticket)
    transport.forget.assert_called_once_with(ticket)
