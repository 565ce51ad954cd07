/**
 * What the edge says in its log, one line of JSON each: what went wrong, and what is wrong with the settings of a deployed
 * edge, which nobody sees start.
 *
 * @module
 */
import { type Finding, forbidden, type Settings, UNSERVED } from "./policy/check-settings.ts";

/** Something went wrong in here that should not have: an operator has to hear of it. */
export function logError(error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(JSON.stringify({ reason: "InternalError", message }));
}

/** The settings of an isolate do not change: each thing is said once. */
const told = new Set<string>();

/** Writes findings into the log, unless this isolate has done so. */
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
 * Looks once whether the settings are what they must be.
 *
 * @returns a finding for which nobody is served
 */
export function inspectSettings(settings: Settings): Finding | undefined {
  if (looked === undefined) {
    const wrong = forbidden(settings);
    logFindings(wrong);
    looked = { unserved: wrong.find(({ code }) => UNSERVED.includes(code)) };
  }
  return looked.unserved;
}
