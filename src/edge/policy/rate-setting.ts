/**
 * How much one principal may do: the variable RATE, and under which name its share is metered.
 *
 * @module
 */
import { LEAST_RATE_OCTETS, RATE } from "./limits.ts";

/** What one principal may do. */
export interface Rate {
  /** Virtual connections at a time. */
  readonly connections: number;
  /** New ones, a minute. */
  readonly connects: number;
  /** Octets that its devices send, a second. */
  readonly octets: number;
  /** Messages that its devices send, a second: one to several recipients is as many. */
  readonly messages: number;
  /** Recipients that one session may have. */
  readonly recipients: number;
}

/** A RATE that is not well formed; the message says what to change. */
export class RateError extends Error {
  /** What is wrong, as the end of a sentence that begins with RATE. */
  readonly problem: string;
  /** What to do. */
  readonly cure: string;

  constructor(problem: string, cure: string) {
    super(`RATE ${problem}: ${cure}`);
    this.name = "RateError";
    this.problem = problem;
    this.cure = cure;
  }
}

/**
 * Parses RATE: `name=number`, separated by spaces or commas. What is not named has its default.
 *
 * @throws RateError
 *
 * @example
 * parseRate("connections=50 octets=1000000"); // 120 connects a minute and 5,000 messages a second as by default
 */
export function parseRate(text: string): Rate {
  const rate: Record<keyof Rate, number> = { ...RATE };
  const named = new Set<string>();
  for (const entry of text.split(/[\s,]+/).filter((part) => part !== "")) {
    const [, name = "", figure = ""] = /^([a-z]+)=([0-9]{1,15})$/.exec(entry) ?? [];
    if (!isName(name)) {
      const names = Object.keys(RATE).join(", ");
      throw new RateError(`has ${quote(entry)}, which is no limit`, `write ${names} as name=number`);
    }
    if (named.has(name)) throw new RateError(`has ${quote(entry)}, the second ${name}`, "leave one of both out");
    named.add(name);
    const least = name === "octets" ? LEAST_RATE_OCTETS : 1;
    if (Number(figure) < least)
      throw new RateError(`has ${quote(entry)}, which is too little`, `write at least ${least}`);
    rate[name] = Number(figure);
  }
  return rate;
}

function isName(name: string): name is keyof Rate {
  return Object.hasOwn(RATE, name);
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}

/**
 * The name under which a virtual connection is metered; undefined when it has no limits. Whoever has limits shares them
 * among all that is metered under the same name.
 *
 * Whoever shows a token has a share by that token. Where nobody has to say who he is, it is the address by which a device
 * connects, which it may choose: that keeps a device that runs wild from being in the way of others, and nobody who means
 * to be. There an operator who sets no RATE has no limits.
 *
 * @param source the device URL of the SSTP Connect
 * @param token what is the same for the same token; undefined where nobody has to show one
 */
export function meteredName(
  source: string,
  token: string | undefined,
  env: { readonly RATE?: string },
): string | undefined {
  if (token !== undefined) return `token:${token}`;
  return (env.RATE ?? "") === "" || source === "" ? undefined : `address:${source}`;
}
