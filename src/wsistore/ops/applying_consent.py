"""Whether people still want a plan that is being applied: asked again when they have said something new."""

from __future__ import annotations

from collections.abc import Hashable

from wsistore.ops.approval_contract import ApprovablePlan
from wsistore.ops.approving import Approved, check_approved
from wsistore.ops.site import Site


class Consent:
    """What people have said of a plan, and what follows from it.

    Parameters
    ----------
    site
        An open site.
    plan
        As it was read.

    Raises
    ------
    WsistoreError
        As `wsistore.ops.approving.check_approved`.

    """

    def __init__(self, site: Site, plan: ApprovablePlan) -> None:
        self._site, self._plan = site, plan
        self._said = self._heard()  # before it is checked: what is said meanwhile is noticed later
        self.approved: Approved = check_approved(site, plan)

    def has_changed(self) -> bool:
        """Return whether somebody approved it, gave a visa, or came or went as an approver; then ask all again.

        Raises
        ------
        WsistoreError
            As `wsistore.ops.approving.check_approved`: a plan that is approved no longer is not gone on with.

        """
        heard = self._heard()
        if heard == self._said:
            return False
        self.approved = check_approved(self._site, self._plan)
        self._said = heard
        return True

    def _heard(self) -> Hashable:
        catalog, digest = self._site.catalog, self._plan.digest
        roster = [(row.number, row.at) for row in catalog.roster_log()]
        return (*catalog.approvals(digest), *catalog.visas(digest), *roster)
