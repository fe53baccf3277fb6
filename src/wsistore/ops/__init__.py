"""The use cases: the only door for the command line, the flows and Python programs. They are imported when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsistore.ops.applying import apply_plan
    from wsistore.ops.applying_ends import give_up_plan
    from wsistore.ops.applying_results import Applied, AppliedState, Applying
    from wsistore.ops.approval_contract import ApprovalScope
    from wsistore.ops.approval_proofs import IdToken
    from wsistore.ops.approving import Approved, Standing, approval_nonce, approve, check_approved, check_plan, standing
    from wsistore.ops.attempts import Recovered, recover
    from wsistore.ops.backups import Backup, backup_catalog
    from wsistore.ops.bordereau import Bordereau, write_bordereau
    from wsistore.ops.clinical import FeedStatus, feed_status, import_metadata
    from wsistore.ops.closing_month import ClosedMonth, close_month, month_before
    from wsistore.ops.describe import check_events, list_slides, show
    from wsistore.ops.drops import drop
    from wsistore.ops.erasing_companions import Erased, destroy_keys
    from wsistore.ops.exporting import ExportCodec, Exported, export
    from wsistore.ops.facts import facts_table
    from wsistore.ops.forecasting import Forecasted, Outcome, copy_scenarios, forecast_scenarios, scenario_files
    from wsistore.ops.forecasting_ages import what_if
    from wsistore.ops.forecasting_past import TriedOnPast, try_on_past
    from wsistore.ops.holding import hold, list_holds, release
    from wsistore.ops.ingesting import ingest_one
    from wsistore.ops.intake_pass import intake, intake_state
    from wsistore.ops.invoicing import import_invoice, list_invoices, match_invoices, missing_invoices
    from wsistore.ops.key_check import check_keys
    from wsistore.ops.key_finding import KeyFinding
    from wsistore.ops.key_rotation import Rotated, rotate_keys
    from wsistore.ops.labelling import label, list_labels, unlabel
    from wsistore.ops.ledger_check import LedgerCheck, check_ledgers
    from wsistore.ops.many import ingest, verify_many
    from wsistore.ops.metadata import read_metadata
    from wsistore.ops.move_results import MoveResult, MoveStatus
    from wsistore.ops.moving import copy, move
    from wsistore.ops.objecting import count_objections, object_to_research, read_numbers, withdraw_objection
    from wsistore.ops.opening import open_slide, open_source
    from wsistore.ops.orphans import recover_all
    from wsistore.ops.pages_of_month import report_pages
    from wsistore.ops.personal_keys import account_of, make_own_key, open_own_key, own_key_path, read_introduction
    from wsistore.ops.plan_reading import read_plan
    from wsistore.ops.planning import PlanMade, make_plan, plan_of_site
    from wsistore.ops.planning_chart import draw_plan
    from wsistore.ops.planning_rows import explain_row, plan_changes, plan_difference, plan_rows
    from wsistore.ops.project_correspondence import import_correspondence
    from wsistore.ops.projects import (
        ShownProject,
        close_project,
        create_project,
        grant_project,
        list_projects,
        revoke_grant,
        rotate_project_keys,
        set_cohort,
        show_project,
    )
    from wsistore.ops.rebuilding import Rebuilding, rebuild_catalog
    from wsistore.ops.recall_ends import Expired, expire
    from wsistore.ops.recall_results import CaseStatus, Coming, RecallStatus
    from wsistore.ops.recall_status import statuses
    from wsistore.ops.recall_times import moment_of
    from wsistore.ops.recalling import advance, recall, wait
    from wsistore.ops.receipts import (
        find_plan,
        receipt,
        receipt_text,
        save_receipt,
        write_certificates,
        write_receipt,
    )
    from wsistore.ops.reencoding import reencode, reencode_one
    from wsistore.ops.reporting import report
    from wsistore.ops.research_access import Access, Caller, Limits, ProjectView, SharedSlide
    from wsistore.ops.restoring import Restored, restore
    from wsistore.ops.results import Failure, IngestResult, IngestStatus, ReencodeResult, ReencodeStatus, VerifyResult
    from wsistore.ops.roster import add_approver, revoke_approver, roster_entries, roster_of, subject_of
    from wsistore.ops.ruling import (
        RuleColumn,
        RulesChecked,
        RulesTested,
        check_rules,
        copy_rules,
        explain_slide,
        rule_columns,
        rule_set,
        rule_sets,
        try_rules,
    )
    from wsistore.ops.scrub_results import Finding, ScrubRow, ScrubStatus, TierReport
    from wsistore.ops.scrubbing import scrub
    from wsistore.ops.sealing_identities import Sealed, seal_identities
    from wsistore.ops.site import Site, init_site, open_site
    from wsistore.ops.site_keys import ShownKeys, init_keys, recover_keys, show_keys, write_sheets
    from wsistore.ops.tier_adding import AddedTier, add_tier
    from wsistore.ops.tier_check import check_tier
    from wsistore.ops.tier_listing import list_tiers
    from wsistore.ops.tier_rows import CheckRow
    from wsistore.ops.tokens import NewToken, create_token, list_tokens, revoke_token
    from wsistore.ops.tuning import TuneOptions, encoding_for, tune, tune_profile
    from wsistore.ops.tuning_plot import draw_tuned
    from wsistore.ops.tuning_results import Tuned
    from wsistore.ops.verifying import verify
    from wsistore.ops.visas import add_visa
    from wsistore.ops.visas_given import GivenVisa, VisaScope
    from wsistore.ops.watching import Planned, Watcher

_MODULES = {
    "AddedTier": "tier_adding",
    "Applied": "applying_results",
    "AppliedState": "applying_results",
    "Applying": "applying_results",
    "ApprovalScope": "approval_contract",
    "Approved": "approving",
    "Backup": "backups",
    "Bordereau": "bordereau",
    "CaseStatus": "recall_results",
    "CheckRow": "tier_rows",
    "ClosedMonth": "closing_month",
    "Coming": "recall_results",
    "Erased": "erasing_companions",
    "Expired": "recall_ends",
    "ExportCodec": "exporting",
    "Exported": "exporting",
    "Failure": "results",
    "FeedStatus": "clinical",
    "Finding": "scrub_results",
    "GivenVisa": "visas_given",
    "IdToken": "approval_proofs",
    "IngestResult": "results",
    "IngestStatus": "results",
    "KeyFinding": "key_finding",
    "LedgerCheck": "ledger_check",
    "MoveResult": "move_results",
    "MoveStatus": "move_results",
    "PlanMade": "planning",
    "Planned": "watching",
    "Rebuilding": "rebuilding",
    "RecallStatus": "recall_results",
    "Recovered": "attempts",
    "ReencodeResult": "results",
    "ReencodeStatus": "results",
    "Restored": "restoring",
    "Rotated": "key_rotation",
    "RuleColumn": "ruling",
    "RulesChecked": "ruling",
    "RulesTested": "ruling",
    "ScrubRow": "scrub_results",
    "ScrubStatus": "scrub_results",
    "Sealed": "sealing_identities",
    "ShownKeys": "site_keys",
    "Site": "site",
    "Standing": "approving",
    "TierReport": "scrub_results",
    "TuneOptions": "tuning",
    "Tuned": "tuning_results",
    "VerifyResult": "results",
    "VisaScope": "visas_given",
    "Watcher": "watching",
    "account_of": "personal_keys",
    "add_approver": "roster",
    "add_tier": "tier_adding",
    "add_visa": "visas",
    "advance": "recalling",
    "apply_plan": "applying",
    "approval_nonce": "approving",
    "approve": "approving",
    "backup_catalog": "backups",
    "check_approved": "approving",
    "check_plan": "approving",
    "check_events": "describe",
    "check_keys": "key_check",
    "check_ledgers": "ledger_check",
    "check_rules": "ruling",
    "check_tier": "tier_check",
    "close_month": "closing_month",
    "copy": "moving",
    "copy_rules": "ruling",
    "destroy_keys": "erasing_companions",
    "draw_plan": "planning_chart",
    "draw_tuned": "tuning_plot",
    "drop": "drops",
    "encoding_for": "tuning",
    "expire": "recall_ends",
    "explain_row": "planning_rows",
    "explain_slide": "ruling",
    "export": "exporting",
    "facts_table": "facts",
    "feed_status": "clinical",
    "find_plan": "receipts",
    "give_up_plan": "applying_ends",
    "hold": "holding",
    "import_invoice": "invoicing",
    "import_metadata": "clinical",
    "ingest": "many",
    "ingest_one": "ingesting",
    "init_keys": "site_keys",
    "init_site": "site",
    "intake": "intake_pass",
    "intake_state": "intake_pass",
    "list_holds": "holding",
    "label": "labelling",
    "list_invoices": "invoicing",
    "list_labels": "labelling",
    "list_slides": "describe",
    "list_tiers": "tier_listing",
    "make_own_key": "personal_keys",
    "make_plan": "planning",
    "match_invoices": "invoicing",
    "missing_invoices": "invoicing",
    "moment_of": "recall_times",
    "month_before": "closing_month",
    "move": "moving",
    "open_own_key": "personal_keys",
    "open_site": "site",
    "open_slide": "opening",
    "open_source": "opening",
    "own_key_path": "personal_keys",
    "plan_changes": "planning_rows",
    "plan_difference": "planning_rows",
    "plan_of_site": "planning",
    "plan_rows": "planning_rows",
    "read_introduction": "personal_keys",
    "read_metadata": "metadata",
    "read_plan": "plan_reading",
    "rebuild_catalog": "rebuilding",
    "recall": "recalling",
    "receipt": "receipts",
    "receipt_text": "receipts",
    "recover": "attempts",
    "recover_all": "orphans",
    "recover_keys": "site_keys",
    "reencode": "reencoding",
    "reencode_one": "reencoding",
    "release": "holding",
    "report": "reporting",
    "report_pages": "pages_of_month",
    "restore": "restoring",
    "revoke_approver": "roster",
    "roster_entries": "roster",
    "roster_of": "roster",
    "rotate_keys": "key_rotation",
    "rule_columns": "ruling",
    "rule_set": "ruling",
    "rule_sets": "ruling",
    "save_receipt": "receipts",
    "scrub": "scrubbing",
    "seal_identities": "sealing_identities",
    "show": "describe",
    "show_keys": "site_keys",
    "standing": "approving",
    "statuses": "recall_status",
    "subject_of": "roster",
    "try_rules": "ruling",
    "tune": "tuning",
    "tune_profile": "tuning",
    "unlabel": "labelling",
    "verify": "verifying",
    "verify_many": "many",
    "wait": "recalling",
    "write_bordereau": "bordereau",
    "write_certificates": "receipts",
    "write_receipt": "receipts",
    "copy_scenarios": "forecasting",
    "what_if": "forecasting_ages",
    "TriedOnPast": "forecasting_past",
    "try_on_past": "forecasting_past",
    "forecast_scenarios": "forecasting",
    "scenario_files": "forecasting",
    "Forecasted": "forecasting",
    "Outcome": "forecasting",
    "write_sheets": "site_keys",
    "count_objections": "objecting",
    "object_to_research": "objecting",
    "read_numbers": "objecting",
    "withdraw_objection": "objecting",
    "import_correspondence": "project_correspondence",
    "ShownProject": "projects",
    "close_project": "projects",
    "create_project": "projects",
    "grant_project": "projects",
    "list_projects": "projects",
    "revoke_grant": "projects",
    "rotate_project_keys": "projects",
    "set_cohort": "projects",
    "show_project": "projects",
    "Access": "research_access",
    "Caller": "research_access",
    "Limits": "research_access",
    "ProjectView": "research_access",
    "SharedSlide": "research_access",
    "NewToken": "tokens",
    "create_token": "tokens",
    "list_tokens": "tokens",
    "revoke_token": "tokens",
}

# Several to a line: one each would be a hundred lines that nobody reads.
__all__ = [
    "ClosedMonth", "close_month", "import_invoice", "list_invoices", "match_invoices", "missing_invoices",
    "report_pages",
    "month_before",
    "AddedTier", "Applied", "AppliedState", "Applying", "ApprovalScope", "Approved", "Backup", "Bordereau",
    "CaseStatus", "CheckRow", "Coming", "Erased", "Expired", "ExportCodec", "Exported", "Failure", "FeedStatus",
    "Finding", "Forecasted", "GivenVisa", "IdToken", "IngestResult", "IngestStatus", "KeyFinding", "LedgerCheck",
    "MoveResult", "MoveStatus", "Outcome", "PlanMade", "Planned", "Rebuilding", "RecallStatus", "Recovered",
    "ReencodeResult", "ReencodeStatus", "Restored", "Rotated", "RuleColumn", "RulesChecked", "RulesTested",
    "ScrubRow", "ScrubStatus", "Sealed", "ShownKeys", "Site", "Standing", "TierReport", "TuneOptions", "Tuned",
    "VerifyResult", "VisaScope", "Watcher", "account_of", "add_approver", "add_tier", "add_visa", "advance",
    "apply_plan", "approval_nonce", "approve", "backup_catalog", "check_approved", "check_events", "check_keys",
    "check_ledgers", "check_plan", "check_rules", "check_tier", "copy", "copy_rules", "copy_scenarios",
    "destroy_keys", "draw_plan", "draw_tuned", "drop", "encoding_for", "expire", "explain_row", "explain_slide",
    "export", "facts_table", "feed_status", "find_plan", "forecast_scenarios", "give_up_plan", "hold",
    "import_metadata", "ingest", "ingest_one", "init_keys", "init_site", "intake", "intake_state", "label",
    "list_holds", "list_labels", "list_slides", "list_tiers", "make_own_key", "make_plan", "moment_of", "move",
    "open_own_key", "open_site", "open_slide", "open_source", "own_key_path", "plan_changes", "plan_difference",
    "plan_of_site", "plan_rows", "read_introduction", "read_metadata", "read_plan", "rebuild_catalog", "recall",
    "receipt", "receipt_text", "recover", "recover_all", "recover_keys", "reencode", "reencode_one", "release",
    "report", "restore", "revoke_approver", "roster_entries", "roster_of", "rotate_keys", "rule_columns",
    "rule_set", "rule_sets", "save_receipt", "scenario_files", "scrub", "seal_identities", "show", "show_keys",
    "standing", "statuses", "subject_of", "TriedOnPast", "try_on_past", "try_rules",
    "tune", "tune_profile", "unlabel", "verify", "verify_many",
    "count_objections", "object_to_research", "read_numbers", "withdraw_objection", "import_correspondence",
    "ShownProject", "close_project", "create_project", "grant_project", "list_projects", "revoke_grant",
    "rotate_project_keys", "set_cohort", "show_project", "Access", "Caller", "Limits", "ProjectView", "SharedSlide",
    "NewToken", "create_token", "list_tokens", "revoke_token",
    "wait", "what_if", "write_bordereau", "write_certificates", "write_receipt", "write_sheets",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a use case when it is first asked for (PEP 562): ``wsistore --help`` loads nothing that reads slides."""
    module = _MODULES.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{module}"), name)
