/**
 * What `grooveway top` shows: the state of an edge, and what has happened between two readings of its counters. Pure.
 *
 * @module
 */
import { size } from "../output.ts";

/** The counters of an edge, as /admin/metrics answers. */
export interface Reading {
  /** Totals by series: the counter, a blank, and the value of its label. */
  readonly totals: Readonly<Record<string, number>>;
  /** Values by gauge and value of its label. */
  readonly gauges: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** What /ready answers. */
export interface Readiness {
  readonly ready: boolean;
  readonly problems: readonly { readonly part: string; readonly code: string; readonly cure: string }[];
  readonly warnings: readonly { readonly part: string; readonly code: string; readonly cure: string }[];
}

export interface View {
  readonly edge: string;
  readonly readiness: Readiness;
  readonly now: Reading;
  /** The reading before, and how many seconds ago it was. The first has none, and shows totals. */
  readonly before?: { readonly reading: Reading; readonly seconds: number } | undefined;
}

/** Reasons in one line: the others are too few to matter. */
const SHOWN = 6;

/** Returns the lines of the screen. They have what the edge says as it is: print them with `visible`. */
export function screen({ edge, readiness, now, before }: View): string[] {
  const rate = (series: string) => {
    const total = now.totals[series] ?? 0;
    return before === undefined ? total : Math.max(0, total - (before.reading.totals[series] ?? 0)) / before.seconds;
  };
  const per = before === undefined ? " in all" : "/s";
  const flow = (what: "Received" | "Delivered") => {
    const messages = rate(`messages${what} stored`) + rate(`messages${what} passed`);
    const bytes = rate(`bytes${what} stored`) + rate(`bytes${what} passed`);
    return `${figure(messages)}${per}, ${size(Math.round(bytes))}${per}`;
  };
  const gauge = (name: string) => now.gauges[name]?.[""] ?? 0;
  const { problems, warnings } = readiness;
  const notes = [...problems, ...warnings].map(({ part, code, cure }) => `              ${part}: ${code}. ${cure}`);
  const oldest = gauge("oldestWaiting");
  return [
    `${edge}  ${readiness.ready ? (warnings.length > 0 ? "ready, with a warning" : "ready") : "NOT READY"}`,
    ...notes,
    "",
    `connections   ${list(now.gauges.connections ?? {}, 0)}; half-open ${gauge("halfOpen")}`,
    `received      ${flow("Received")}`,
    `delivered     ${flow("Delivered")}`,
    `streams       ${size(Math.round(rate("streamBytes")))}${per}`,
    `passed        ${size(Math.round(rate("passedThroughBytes to relay")))}${per} to relays, ${size(Math.round(rate("passedThroughBytes from relay")))}${per} from them`,
    `appended      ${figure(rate("plainStreamAppends"))}${per} to plain streams, ${size(Math.round(rate("plainStreamBytes")))}${per}`,
    `waiting       ${gauge("waitingMessages")} messages, ${size(gauge("waitingBytes"))}, in ${gauge("waitingMailboxes")} mailboxes; oldest ${age(oldest)}`,
    `links         ${list(now.gauges.links ?? {}, 0)}`,
    `slowed down   ${figure(rate("throttleWaits"))} times${per}`,
    `drops         ${list(ofFamily(now, "messagesDropped"), 1)}`,
    `refused       ${list(ofFamily(now, "requestsRefused"), 1)}`,
    `closed        ${list(ofFamily(now, "connectionsClosed"), 1)}`,
  ];
}

/** The totals of a counter by the value of its label. */
function ofFamily({ totals }: Reading, family: string): Record<string, number> {
  const prefix = `${family} `;
  const found = Object.entries(totals).filter(([series]) => series.startsWith(prefix));
  return Object.fromEntries(found.map(([series, total]) => [series.slice(prefix.length), total]));
}

/** Names with their numbers, the largest first. @param least what is below is left out */
function list(values: Readonly<Record<string, number>>, least: number): string {
  const sorted = Object.entries(values)
    .filter(([, value]) => value >= least)
    .sort(([, one], [, other]) => other - one);
  const shown = sorted.slice(0, SHOWN).map(([name, value]) => `${name} ${figure(value)}`);
  const more = sorted.length - shown.length;
  return shown.length === 0 ? "–" : `${shown.join(", ")}${more > 0 ? `, and ${more} more` : ""}`;
}

function figure(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

/** A time span for a person. */
function age(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}
