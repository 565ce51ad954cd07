/**
 * The cost model as a table for people, and as data. Pure.
 *
 * @module
 */
import { ASSUMPTIONS, type Cost, deviceKinds, monthlyCost, PRICES, USE } from "./cost-model.ts";

/** Numbers of devices that the table is for. */
export const DEVICE_COUNTS = [10, 1_000, 100_000] as const;

/** What so many devices of one kind cost in a month. */
export interface CostRow {
  readonly kind: string;
  readonly devices: number;
  readonly cost: Cost;
  /** If objects are billed for as long as the documentation can be read. */
  readonly atMost: number;
}

/** The model as data: its prices, assumptions and counted use, and what comes of them. */
export function costReport(counts: readonly number[]) {
  return { prices: PRICES, assumptions: ASSUMPTIONS, use: USE, costs: rows(counts) };
}

function rows(counts: readonly number[]): CostRow[] {
  return deviceKinds().flatMap((kind) =>
    counts.map((devices) => ({
      kind: kind.name,
      devices,
      cost: monthlyCost(kind, devices),
      atMost: monthlyCost(kind, devices, ASSUMPTIONS.activeSecondsAtMost).total,
    })),
  );
}

/** Dollars a month for each kind and number of devices, and below it what the model assumes. */
export function costTable(counts: readonly number[]): string {
  const all = rows(counts);
  const width = Math.max(...all.map(({ kind }) => kind.length)) + 2;
  const head = counts.map((count) => `${count.toLocaleString("en")} devices`.padStart(COLUMN)).join("");
  const lines = deviceKinds().map(({ name }) => {
    const cells = all.filter(({ kind }) => kind === name).map(({ cost, atMost }) => cell(cost.total, atMost));
    return `${name.padEnd(width)}${cells.map((text) => text.padStart(COLUMN)).join("")}`;
  });
  return [`${"US dollars a month".padEnd(width)}${head}`, ...lines, "", ...NOTES].join("\n");
}

const COLUMN = 22;

function cell(total: number, atMost: number): string {
  const [least, most] = [money(total), money(atMost)];
  return least === most ? least : `${least} to ${most}`;
}

function money(dollars: number): string {
  return dollars.toLocaleString("en", { maximumFractionDigits: dollars < 100 ? 1 : 0 });
}

const NOTES = [
  "Each line is for an account that has only these devices: Workers Paid, at the prices of November 2026.",
  "A device is connected all day; connecting is not in it. The use of a device is counted by a test over an hour.",
  `An object that was active is billed for ${ASSUMPTIONS.activeSeconds} s; the second figure is for ${ASSUMPTIONS.activeSecondsAtMost} s, as the documentation can be read too.`,
  `A chatty device sends ${ASSUMPTIONS.chattyMessages} messages of 1 KiB in an hour, a bulk device 1 GiB a day, to others that are connected.`,
  "Pings of WebSocket devices, which the platform answers by itself, are taken to be billed as messages.",
  `A request takes ${ASSUMPTIONS.cpuMilliseconds} ms of CPU. Storage of what waits ($0.20 for a GB and month) is not in it.`,
];
