/**
 * The edge's log, one line of JSON per entry: errors, and findings about the settings. A deployed edge has no console
 * at start, so its first request logs the findings.
 *
 * @module
 */
import { logJson } from "../lib/runtime/json-log.ts";
import { problemText } from "../lib/setting.ts";
import type { Drop } from "../store-and-forward/drop-reasons.ts";
import { type Finding, forbidden, preventsService } from "./policy/check-settings.ts";
import type { Settings } from "./policy/settings.ts";
import type { Reason } from "./reasons.ts";

/** Logs something that the operator should know, by its name in the vocabulary of failure. */
export function logReason(
  level: "warn" | "error",
  reason: Reason | Drop,
  more: Readonly<Record<string, string>>,
): void {
  logJson(level, reason, more);
}

/** Logs an unexpected error for the operator. */
export function logError(error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  logReason("error", "InternalError", { message });
}

/** Findings that this isolate has logged. Settings do not change during its life, so each is logged once. */
const told = new Set<string>();

/** Logs findings that this isolate has not logged yet. */
export function logFindings(findings: readonly Finding[]): void {
  for (const finding of findings) {
    const { code } = finding;
    const message = problemText(finding);
    if (told.has(message)) continue;
    told.add(message);
    logReason("error", "EdgeMisconfigured", { code, message });
  }
}

let looked: { readonly unserved: Finding | undefined } | undefined;

/**
 * Checks the settings, once per isolate, and logs what is wrong.
 *
 * @returns a finding that keeps the edge from serving any request
 */
export function inspectSettings(settings: Settings): Finding | undefined {
  if (looked === undefined) {
    const wrong = forbidden(settings);
    logFindings(wrong);
    looked = { unserved: wrong.find(preventsService) };
  }
  return looked.unserved;
}
