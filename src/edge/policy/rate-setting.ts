/**
 * The setting RATE: how much one principal may do, and the name under which it is metered.
 *
 * @module
 */
import { entriesOf, malformed, quoted, type Setting } from "../../lib/setting.ts";
import { LEAST_RATE_OCTETS, RATE } from "./limits.ts";

/** Limits of one principal. */
export interface Rate {
  /** Virtual connections at a time. */
  readonly connections: number;
  /** New virtual connections a minute. */
  readonly connects: number;
  /** Bytes that its devices send a second, and that destinations send to them. */
  readonly octets: number;
  /** Messages that its devices send a second. A message to several recipients counts once for each. */
  readonly messages: number;
  /** Recipients of one session. */
  readonly recipients: number;
  /** TCP connections at a time that the edge holds to destinations. */
  readonly streams: number;
}

/**
 * The limits of an edge. With a malformed RATE the edge serves no request, and its objects, whose alarms go on, have the
 * defaults: a constructor that throws would lose the alarm.
 */
export function parseRate(text: string): Rate {
  const read = readRate(text);
  return read.ok ? read.value : RATE;
}

/**
 * Reads RATE: `name=number`, separated by spaces or commas. Unnamed limits have their defaults.
 *
 * @example
 * readRate("connections=50 octets=1000000"); // 120 connects a minute and 5,000 messages a second as by default
 */
export function readRate(text: string): Setting<Rate> {
  const rate: Record<keyof Rate, number> = { ...RATE };
  const named = new Set<string>();
  for (const entry of entriesOf(text)) {
    const [, name = "", figure = ""] = /^([a-z]+)=([0-9]{1,15})$/.exec(entry) ?? [];
    if (!isName(name)) {
      const names = Object.keys(RATE).join(", ");
      return malformed("RATE", `has ${quoted(entry)}, which is not a limit`, `write ${names} as name=number`);
    }
    if (named.has(name)) {
      return malformed("RATE", `has ${quoted(entry)}, which sets ${name} again`, "leave one of the two out");
    }
    named.add(name);
    const least = name === "octets" ? LEAST_RATE_OCTETS : 1;
    if (Number(figure) < least) {
      return malformed("RATE", `has ${quoted(entry)}, which is too small`, `write at least ${least}`);
    }
    rate[name] = Number(figure);
  }
  return { ok: true, value: rate };
}

function isName(name: string): name is keyof Rate {
  return Object.hasOwn(RATE, name);
}

/**
 * Returns the name under which a virtual connection is metered; undefined if it has no limits. All connections of one
 * name share its limits.
 *
 * A connection with a token is metered by the token. Where none is required, it is metered by the address by which the
 * device connects, which the device may choose: that protects others from a runaway device, not from an attacker. Such
 * connections have no limits unless the operator sets RATE.
 *
 * @param source the device URL of the SSTP Connect
 * @param token identifies the token; undefined where none is required
 */
export function meteredName(
  source: string,
  token: string | undefined,
  env: { readonly RATE?: string },
): string | undefined {
  if (token !== undefined) return `token:${token}`;
  return (env.RATE ?? "") === "" || source === "" ? undefined : `address:${source}`;
}
