/**
 * The journal of an incoming transfer: append-only text, one JSON object per line. A line that cannot be parsed was
 * torn by a crash and is skipped.
 *
 *   transfer   identifier and sender; the first line
 *   begin      as sent
 *   range      bytes on disk and their CRC-32; trusted only if the bytes read back match it
 *   end        as sent
 *   setAside   why it cannot continue; null if it continues after all
 *
 * @module
 */
import type { BeginMessage, EndMessage } from "./message.ts";
import { SET_ASIDE, type SetAsideReason } from "./receiving.ts";

export type JournalEntry =
  | {
      readonly type: "transfer";
      readonly transfer: string;
      readonly from: string | null;
      readonly vouched: boolean;
    }
  | Omit<BeginMessage, "transfer">
  | { readonly type: "range"; readonly offset: number; readonly length: number; readonly crc32: number }
  | Omit<EndMessage, "transfer">
  | { readonly type: "setAside"; readonly reason: SetAsideReason | null };

/** Formats an entry as a line, including the line end. */
export function journalLine(entry: JournalEntry): string {
  return `${JSON.stringify(entry)}\n`;
}

/** Parses a journal. */
export function readJournal(text: string): JournalEntry[] {
  return text.split("\n").flatMap((line) => entryIn(line) ?? []);
}

/** Parses a line. Returns undefined if it is torn. */
function entryIn(line: string): JournalEntry | undefined {
  const fields = objectIn(line);
  switch (fields?.type) {
    case "transfer": {
      const { transfer, from, vouched } = fields;
      if (typeof transfer !== "string" || (from !== null && typeof from !== "string")) return undefined;
      return { type: "transfer", transfer, from, vouched: vouched === true };
    }
    case "begin": {
      const { name, size, modified, mode } = fields;
      if (typeof name !== "string" || (size !== null && !isCount(size))) return undefined;
      return {
        type: "begin",
        name,
        size,
        ...(Number.isSafeInteger(modified) && { modified: modified as number }),
        ...(isCount(mode) && { mode }),
      };
    }
    case "range": {
      const { offset, length, crc32 } = fields;
      if (!isCount(offset) || !isCount(length) || length === 0 || !isCount(crc32)) return undefined;
      return { type: "range", offset, length, crc32 };
    }
    case "end": {
      const { size, sha256 } = fields;
      return isCount(size) && typeof sha256 === "string" ? { type: "end", size, sha256 } : undefined;
    }
    case "setAside": {
      const { reason } = fields;
      if (reason !== null && !(typeof reason === "string" && Object.hasOwn(SET_ASIDE, reason))) return undefined;
      return { type: "setAside", reason: reason as SetAsideReason | null };
    }
    default:
      return undefined;
  }
}

/** Parses a line of JSON. Returns undefined if it is not an object. */
export function objectIn(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
