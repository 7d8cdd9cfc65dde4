from __future__ import annotations

import pytest

from visiongraft.exporters.verification.proof import Findings
from visiongraft.plugins.classification.task import Classification


@pytest.mark.parametrize(
    ("license", "warned"),
    [("cc-by-nc-4.0", True), ("CC BY-NC-SA 4.0", True), ("apache-2.0", False), (None, False)],
)
def test_a_certificate_warns_of_a_license_that_forbids_commercial_use(
    license: str | None, warned: bool
) -> None:
    facts = {"name": "timm/net"} | ({} if license is None else {"license": license})
    findings = Findings((), None, None, None, ("as before",))
    certificate = findings.certificate("m.onnx", "onnx", Classification(), {}, backbone=facts)
    words = f"the license of the weights of timm/net, {license}, forbids commercial use"
    assert certificate.warnings[0] == "as before"
    assert any(words in each for each in certificate.warnings) == warned
