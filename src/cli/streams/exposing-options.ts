/**
 * Options of the commands that expose services: who may connect, and for how long connections outlive the network.
 *
 * @module
 */
import { parseFingerprint } from "../../device/index.ts";
import { type Destination, parseDestination } from "../../edge/policy/destinations.ts";
import { visible } from "../../lib/printable.ts";
import { secondsIn } from "../duration.ts";
import type { KeyringOptions } from "../keyring/file-keyring.ts";
import { isPattern, type TrustLine } from "../keyring/trust-text.ts";
import { usage } from "../parse-arguments.ts";
import type { Exposed } from "./exposed.ts";
import { PLAIN_HELP, PLAIN_NOTICE, PLAIN_OPTION } from "./plain-option.ts";
import { type Endpoint, parseExposed } from "./stream-address.ts";
import type { StreamLog } from "./stream-log.ts";

/** The longest time for which streams outlive their connections, in seconds. */
const LONGEST_RESUME = 24 * 3600;

export const EXPOSING_OPTIONS = {
  trust: { type: "string", multiple: true },
  "accept-new": { type: "boolean", default: false },
  resume: { type: "string", default: "10m" },
  ...PLAIN_OPTION,
} as const;

/** Those of `expose`, which lists on its command line what it exposes. */
export const EXPOSE_OPTIONS = { ...EXPOSING_OPTIONS, socks: { type: "boolean", default: false } } as const;

export const EXPOSING_HELP = `  --trust ADDRESS=FINGERPRINT
                        also admit this address or pattern with this key, in this run; repeatable
  --accept-new          admit the first key of each address that connects, and keep it: any device with a token for an
                        address gets in
  --resume TIME         how long connections outlive the loss of the network: 90s, 10m, up to 24h; default 10m
${PLAIN_HELP}`;

export interface Exposing {
  readonly keyring: KeyringOptions;
  /** In milliseconds. */
  readonly resumeTime: number;
  readonly plain: boolean;
}

/** Reads them. Says it if any key is accepted. @throws CommandError Usage */
export function exposingOptions(
  command: string,
  values: {
    readonly trust?: readonly string[] | undefined;
    readonly "accept-new": boolean;
    readonly resume: string;
    readonly plain: boolean;
  },
  log: StreamLog,
): Exposing {
  const seconds = secondsIn(values.resume);
  if (seconds === undefined || seconds > LONGEST_RESUME) {
    throw usage(command, `--resume ${values.resume} is not a time of up to 24h, such as 90s or 10m`);
  }
  const beside = (values.trust ?? []).map((text) => trusted(command, text));
  const acceptNew = values["accept-new"];
  if (acceptNew) log.tell("--accept-new: the first key of every address that connects is accepted");
  const { plain } = values;
  if (plain) log.tell(PLAIN_NOTICE);
  return { keyring: { beside, acceptNew }, resumeTime: seconds * 1000, plain };
}

/**
 * Parses what is to be exposed, `NAME=HOST:PORT` each, or with --socks a destination.
 *
 * @param mayBeEmpty whether something else is exposed, too
 * @throws CommandError Usage
 */
export function exposedIn(texts: readonly string[], isSocks: boolean, mayBeEmpty = false): Exposed {
  const services = new Map<string, Endpoint>();
  const destinations: Destination[] = [];
  for (const text of texts) {
    // No host has an equals sign.
    if (isSocks && !text.includes("=")) {
      destinations.push(destinationIn(text));
      continue;
    }
    const parsed = parseExposed(text);
    if (!parsed.ok) throw usage("expose", parsed.problems);
    const { name, to } = parsed.value;
    if (services.has(name)) throw usage("expose", `the name ${name} is given twice: choose another`);
    services.set(name, to);
  }
  if (isSocks && destinations.length === 0) {
    throw usage("expose", "--socks lists no destination: give HOST:PORT, *.DOMAIN:PORT or ADDRESS/BITS:PORT");
  }
  if (services.size === 0 && destinations.length === 0 && !mayBeEmpty) {
    throw usage("expose", "there is nothing to expose: give NAME=HOST:PORT");
  }
  return { services, destinations };
}

function destinationIn(text: string): Destination {
  const parsed = parseDestination(text);
  if (!parsed.ok) throw usage("expose", parsed.problems);
  return parsed.value;
}

function trusted(command: string, text: string): TrustLine {
  const at = text.indexOf("=");
  const [address, key] = [text.slice(0, Math.max(0, at)), parseFingerprint(text.slice(at + 1))];
  if (isPattern(address) && key !== undefined) return { kind: "accept", address, key };
  throw usage(command, `--trust ${visible(text)} is not ADDRESS=FINGERPRINT, with the fingerprint of grooveway id`);
}
