/**
 * The output of `grooveway doctor` for a terminal.
 *
 *   transport  to                    through  status  round trip  rate
 *   websocket  edge.example.com:443  direct   works   12 ms       18.2 MiB/s
 *
 * Below a way, or several in a row with the same remark, is the remark.
 *
 * @module
 */
import type { Diagnosis } from "../../device/diagnosis/index.ts";
import { visible } from "../../lib/printable.ts";
import { pathsOf, type Row, recommendation, runsOf, subjectOf } from "./report.ts";

const HEAD: Row = {
  isUsable: false,
  transport: "transport",
  to: "to",
  through: "through",
  status: "status",
  roundTrip: "round trip",
  rate: "rate",
  remark: [],
};

const COLUMNS = ["transport", "to", "through", "status", "roundTrip", "rate"] as const satisfies (keyof Row)[];

/** Returns the lines. Texts from outside are escaped. */
export function tableOf(diagnosis: Diagnosis): string {
  const { ways, findings } = diagnosis;
  const lines = [`grooveway doctor: ${subjectOf(diagnosis)}`, ""];
  if (ways.length > 0) lines.push(...wayLines(pathsOf(diagnosis).flat()), "");
  const width = Math.max(...findings.map(({ check }) => check.length));
  const outcomes = Math.max(...findings.map(({ outcome }) => outcome.length));
  for (const { check, outcome, text } of findings) {
    lines.push(`${check.padEnd(width)}  ${outcome.padEnd(outcomes)}  ${text}`);
  }
  lines.push("", recommendation(diagnosis));
  return lines.map(visible).join("\n");
}

function wayLines(rows: readonly Row[]): string[] {
  const widths = COLUMNS.map((column) => Math.max(...[HEAD, ...rows].map((row) => row[column].length)));
  const line = (row: Row) =>
    COLUMNS.map((column, i) => row[column].padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd();
  return [
    line(HEAD),
    ...runsOf(rows).flatMap((run) => [
      ...run.map(line),
      ...(run[0]?.remark ?? []).map((sentence) => `    ${sentence}`),
    ]),
  ];
}
