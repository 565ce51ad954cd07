/**
 * Reduces an error to codes. Its text stays behind: it may quote a page, a proxy or a PAC file.
 *
 * @module
 */
import { REASON_ADVICE, type ReasonName } from "../../store-and-forward/reason-advice.ts";
import { DeviceError } from "../device-error.ts";
import type { Failure } from "./observations.ts";

/** Causes that are followed: proxy error, dial error, the errors of each address, the system's. */
const DEPTH = 5;

export function failureOf(error: unknown): Failure {
  const code = error instanceof DeviceError ? error.code : "ConnectFailed";
  return { code, system: systemOf(error, DEPTH), reason: reasonOf(error) };
}

function systemOf(error: unknown, depth: number): string | undefined {
  if (depth === 0 || typeof error !== "object" || error === null) return undefined;
  const { code, cause, errors } = error as { code?: unknown; cause?: unknown; errors?: unknown };
  if (!(error instanceof DeviceError) && typeof code === "string" && /^[A-Z][A-Z0-9_]{2,59}$/.test(code)) return code;
  for (const inner of Array.isArray(errors) ? errors : [cause]) {
    const found = systemOf(inner, depth - 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The reason that an edge has given stands at the end of the message. Only known ones are taken. */
function reasonOf(error: unknown): ReasonName | undefined {
  if (!(error instanceof DeviceError)) return undefined;
  const [, reason = ""] = /\[([A-Za-z]+)\]\)?$/.exec(error.message) ?? [];
  return knownReason(reason);
}

/** Returns a reason of edges if the text is one. */
export function knownReason(text: string): ReasonName | undefined {
  return Object.hasOwn(REASON_ADVICE, text) ? (text as ReasonName) : undefined;
}
