/**
 * The edge's log, one line of JSON per entry: errors, and findings about the settings. A deployed edge has no console
 * at start, so its first request logs the findings.
 *
 * @module
 */
import { type Finding, forbidden, type Settings, UNSERVED } from "./policy/check-settings.ts";

/** Logs an unexpected error for the operator. */
export function logError(error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(JSON.stringify({ reason: "InternalError", message }));
}

/** Findings that this isolate has logged. Settings do not change during its life, so each is logged once. */
const told = new Set<string>();

/** Logs findings that this isolate has not logged yet. */
export function logFindings(findings: readonly Finding[]): void {
  for (const { code, setting, problem, cure } of findings) {
    const message = `${setting} ${problem}: ${cure}`;
    if (told.has(message)) continue;
    told.add(message);
    console.error(JSON.stringify({ reason: "EdgeMisconfigured", code, message }));
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
    looked = { unserved: wrong.find(({ code }) => UNSERVED.includes(code)) };
  }
  return looked.unserved;
}
